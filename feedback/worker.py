"""The worker that counts votes: `celery -A feedback.worker worker -Q votes`."""

import functools
import logging
from collections.abc import Sequence

from feedback import tracing
from feedback.errors import RecordUnavailable
from feedback.queue import COUNT_VOTES, make_celery
from feedback.settings import load_settings
from feedback.store import Store, counting

log = logging.getLogger(__name__)
settings = load_settings()
app = make_celery(settings)
# Two lines for each hint, four hints a second: a log of 60 MB a day that says nothing.
for chatty in ("celery.worker.strategy", "celery.app.trace"):
    logging.getLogger(chatty).setLevel(logging.WARNING)


@app.task(name=COUNT_VOTES)
def count_votes(links: Sequence[str] = ()) -> int:
    """Count every vote that is accepted and not counted yet. Returns how many. `links` are the requests that some of
    them came with, in the traces.
    """
    tracing.configure(settings.tracing, "votes")
    try:
        with tracing.current("count votes", "consumer", links=links) as span:
            counted = count_all(store_of_this_process())
            span.set({"tandem.votes.counted": counted})
            return counted
    except RecordUnavailable as error:
        # The rows wait; the scheduler announces them again.
        log.warning("%s", error.message)
        return 0


@functools.cache
def store_of_this_process() -> Store:
    """Opened by the first task, so after the fork: connections must not be shared between processes.

    It need not flush: a count that is lost with the power leaves its votes uncounted, and so to be counted. Flushing
    would hold up all votes that come meanwhile, since SQLite has one writer at a time.
    """
    return Store(settings.record_url, flushes=False)


def count_all(store: Store) -> int:
    """Until there is less than a batch to count. Votes that come meanwhile are announced by a hint of their own: asked
    for again at once, they would be counted one by one, each with a transaction and a flush of the disk."""
    counted = 0
    while True:
        batch = store.write(counting.count_accepted)
        counted += batch
        if batch < counting.COUNT_BATCH:
            return counted
