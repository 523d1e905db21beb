"""The worker that counts votes: `celery -A feedback.worker worker -Q votes`."""

from feedback.queue import COUNT_VOTES, make_celery
from feedback.settings import load_settings
from feedback.store import Store, votes

settings = load_settings()
app = make_celery(settings)


@app.task(name=COUNT_VOTES, acks_late=True, reject_on_worker_lost=True)
def count_votes() -> int:
    """Count every vote that is accepted and not counted yet. Returns how many."""
    store = Store(settings.record_url)
    try:
        return count_all(store)
    finally:
        store.close()


def count_all(store: Store) -> int:
    counted = 0
    while batch := store.write(votes.count_accepted):
        counted += batch
    return counted
