"""An iteration, its worker and the scheduler while what they meet in goes away: the queue, and the record itself."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import func, select

from feedback.schema import Policy
from feedback.settings import load_settings
from feedback.store import Store, iterations
from tests.learner.iterations import LEASE_TTL_S, QUICK, start, voted_home
from tests.postgres_server import BIN, PostgresServer
from tests.vote_stack import WORKER, VoteStack
from tests.waiting import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

LEARNER = [{"feedback.worker": "learner.worker", "votes": "learner"}.get(part, part) for part in WORKER]
STAGES = ("preference", "ppo", "evaluate")


class LearningStack(VoteStack):
    """With the worker that runs iterations."""

    def __init__(self, home: Path, database_url: str | None = None) -> None:
        super().__init__(home, database_url, TANDEM_LOOP__LEASE_TTL_S=str(LEASE_TTL_S))
        self.commands["learner"] = LEARNER


def run_while(store: Store, iteration_id: str, strike: Callable[[], None]) -> iterations.Iteration:
    """Strike once in each of `STAGES`. Returns the row when the iteration has ended."""

    def row() -> iterations.Iteration:
        return store.read(iterations.get, iteration_id)

    for stage in STAGES:
        wait_for(lambda stage=stage: row().stage in STAGES[STAGES.index(stage) :], 300, stage)  # type: ignore[misc]
        strike()
    wait_for(lambda: row().state not in iterations.ACTIVE, 300, "its end")
    return row()


def published(store: Store) -> int:
    """How many versions there are beside the first one."""
    return store.read(lambda session: session.execute(select(func.count()).select_from(Policy)).scalar_one()) - 1


def test_redis_loses_everything_and_the_iteration_goes_on(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "home", learner=QUICK)
    with voted_home(settings) as store, LearningStack(settings.home) as stack:
        redis = Redis(unix_socket_path=str(settings.run_dir / "redis.sock"))
        # What has just been asked for is lost before the worker hears of it.
        stack.kill("learner")
        iteration = start(store, settings)
        wait_for(lambda: redis.keys("learner*"), 60, "a message to the worker")
        redis.flushall()
        stack.start("learner")

        def strike() -> None:
            redis.flushall()
            stack.wipe_redis()

        ended = run_while(store, iteration.id, strike)
        # The process that trains does not even notice.
        assert (ended.state, ended.candidate, ended.attempts) == ("succeeded", 1, 1), ended.error
        assert published(store) == 1


@pytest.mark.skipif(BIN is None, reason="no Postgres on this machine (initdb not found)")
def test_postgres_is_killed_in_every_stage_and_one_version_is_published(tmp_path: Path) -> None:
    with PostgresServer(durable=True) as server:
        url = server.new_database()
        settings = load_settings(home=tmp_path / "home", database_url=url, learner=QUICK)
        with voted_home(settings) as store, LearningStack(settings.home, url):
            iteration = start(store, settings)

            def strike() -> None:
                server.kill()
                # Longer than the lease, by which somebody else may go on.
                time.sleep(1.5 * LEASE_TTL_S)
                server.start()

            ended = run_while(store, iteration.id, strike)
            # However often the record was away, of that no process has died.
            assert (ended.state, ended.candidate, ended.attempts) == ("succeeded", 1, 1), ended.error
            assert published(store) == 1
