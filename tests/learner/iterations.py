"""A home with votes to learn from, and iterations of it in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feedback.schema import Iteration
from feedback.settings import Settings, load_settings
from feedback.store import Store, iterations
from learner.prepare import prepare
from tests.learner.sandbox_votes import cast_votes, have_chats
from tests.records import empty_record_of

QUICK = {
    "checkpoint_interval_s": 0.0,
    "ppo": {"steps": 3, "episodes_per_step": 64, "watch_min_votes": 20},
    "evaluation": {"prompts": 32, "frontier_prompts": 8, "frontier_replies": 4},
    "rejection": {"min_prompts": 50},
}
LEASE_TTL_S = 2.0


def quick_settings(home: Path) -> Settings:
    return load_settings(home=home, learner=QUICK, loop={"lease_ttl_s": LEASE_TTL_S})


@contextmanager
def voted_home(settings: Settings, votes: int = 200, chats: int = 100) -> Iterator[Store]:
    """A home with v0, counted votes, and chats that nobody voted on."""
    store = empty_record_of(settings)
    prepare(store, settings)
    cast_votes(store, settings, votes)
    have_chats(store, chats)
    yield store
    store.close()


def start(store: Store, settings: Settings) -> Iteration:
    return store.write(
        iterations.start_next, trigger="operator", learner=settings.learner.model_dump(mode="json"), reason="a test"
    )


def learner(settings: Settings, iteration: Iteration) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "learner.iteration", iteration.id], env=environment(settings))


def environment(settings: Settings) -> dict[str, str]:
    """Of a process that works for a home with quick settings."""
    return os.environ | {
        "TANDEM_HOME": str(settings.home),
        "TANDEM_LOOP__LEASE_TTL_S": str(LEASE_TTL_S),
        "TANDEM_LOOP__MAX_ATTEMPTS": str(settings.loop.max_attempts),
        "OMP_NUM_THREADS": "1",
        **({} if settings.policies_url is None else {"TANDEM_POLICIES_URL": settings.policies_url}),
    }
