"""The scheduler: `python -m feedback.scheduler`. Sends again what was lost, and starts iterations when they are due.

Any number may run, one on each machine that has a home of its own; the one that holds the scheduler lease acts, but for
what concerns its own home. What it knows is in the record, so one that is killed
takes nothing along.
"""

import logging
import os
import signal
import socket
import threading
import time

from celery import Celery
from sqlalchemy.orm import Session

from feedback import logs, rater_watch, setting_apart
from feedback.erasure import Erasures
from feedback.errors import Conflict, RecordUnavailable
from feedback.lifeline import die_with_parent
from feedback.queue import COUNT_VOTES, RUN_ITERATION, make_sender, send
from feedback.settings import LoopSettings, Settings, load_settings
from feedback.store import Store, iterations, leases, now, samples, tallies, votes

log = logging.getLogger(__name__)

SECONDS_A_DAY = 86_400.0
EXPIRE_INTERVAL_S = 600.0
EXPIRED_AT_ONCE = 1000
LONGEST_HAND_ON_S = 600.0


class Scheduler:
    """One look at a time: `look` does what is due now."""

    def __init__(self, settings: Settings, store: Store, celery: Celery) -> None:
        self.settings = settings
        self.store = store
        self.celery = celery
        self.holder = f"{socket.gethostname()}:{os.getpid()}"
        self.erasures = Erasures(store, settings.home)
        self._sent_at: dict[str, float] = {}
        self._watched_at = 0
        self._expire_at = 0.0
        self._handed_on: tuple[str, int | None] | None = None
        self._hand_on_after_s = 0.0

    def look(self) -> None:
        """Erase here what was erased elsewhere; count what was left, start an iteration if one is due, hand on one that
        nobody works on.
        """
        self.erasures.look()
        ttl_s = 5 * max(self.settings.loop.check_interval_s, self.settings.feedback.sweep_interval_s)
        if self.store.write(leases.acquire, leases.SCHEDULER, self.holder, ttl_s) is None:
            return
        self.set_apart()
        self.sweep_votes()
        self.watch_raters()
        self.expire_chats()
        self.start_due_iteration()
        self.hand_on_iteration()

    def set_apart(self) -> None:
        """Go on with raters who were being set apart, or released, by a process that was cut off."""
        if setting_apart.finish(self.store):
            log.info("votes of raters who were set apart or released are moved, which was cut off")

    def sweep_votes(self) -> None:
        """Announce votes that have stayed uncounted."""
        age_s = self.store.read(votes.oldest_uncounted_age_s)
        # A vote from the future was accepted before the clock was turned back; its age is unknown.
        if age_s is not None and not 0 <= age_s <= self.settings.feedback.sweep_age_s:
            self._send_unless_just_sent(COUNT_VOTES, every_s=self.settings.feedback.sweep_interval_s)

    def watch_raters(self) -> None:
        """Judge the raters again when a twentieth more votes count, or fewer, and fifty at least."""
        counted = self.store.read(tallies.counted)
        if abs(counted - self._watched_at) >= max(50, self._watched_at // 20):
            self._watched_at = counted
            for rater_id, reason in rater_watch.watch(self.store, self.settings.feedback).items():
                log.warning("rater %s is quarantined: %s", rater_id, reason)

    def expire_chats(self) -> None:
        """Erase chats that have been kept for as long as they may be, some at each look.

        They are looked for among all chats, which takes long: not in the transaction that erases, for which votes wait.
        """
        days = self.settings.feedback.retention_days
        if days is None or time.monotonic() < self._expire_at:
            return
        before = self.store.read(now) - days * SECONDS_A_DAY
        found = self.store.read(samples.expired, before, EXPIRED_AT_ONCE)
        if found:
            self.store.write(samples.expire, found, before)
        # More may be there when so many were.
        self._expire_at = time.monotonic() + (0 if len(found) == EXPIRED_AT_ONCE else EXPIRE_INTERVAL_S)

    def start_due_iteration(self) -> None:
        loop = self.settings.loop
        if not loop.automatic or self.store.read(iterations.active) is not None:
            return
        trigger = due(loop, *self.store.read(_progress))
        if trigger is None:
            return
        learner = self.settings.learner.model_dump(mode="json")
        try:
            iteration = self.store.write(iterations.start_next, trigger=trigger, learner=learner)
        except Conflict:
            # Somebody else has started one since this process looked.
            return
        log.info("iteration %s starts by %s", iteration.id, trigger)

    def hand_on_iteration(self) -> None:
        """Send an iteration that is queued, or whose learner has died, to the learner queue: less and less often while
        nobody claims it, as where the record refuses the claim, since each hint that is taken starts a process."""
        active = self.store.read(iterations.active)
        if active is None or self.store.read(leases.held, leases.LEARNER):
            return
        ttl_s = self.settings.loop.lease_ttl_s
        # Each claim has an epoch of its own.
        if self._handed_on != (active.id, active.epoch):
            self._handed_on, self._hand_on_after_s = (active.id, active.epoch), ttl_s / 2
        if self._send_unless_just_sent(RUN_ITERATION, active.id, every_s=max(ttl_s, self._hand_on_after_s)):
            self._hand_on_after_s = min(2 * self._hand_on_after_s, LONGEST_HAND_ON_S)

    def _send_unless_just_sent(self, task: str, *args: str, every_s: float) -> bool:
        what = " ".join((task, *args))
        is_due = time.monotonic() - self._sent_at.get(what, -1e9) >= every_s and send(self.celery, task, *args)
        if is_due:
            self._sent_at[what] = time.monotonic()
        return is_due


def due(loop: LoopSettings, votes_counted: int, votes_since: int, elapsed_s: float) -> str | None:
    """Whether an iteration is due, and why: "count", "time" or None.

    `votes_since` and `elapsed_s` are measured from when the last iteration began, whatever became of it: one that
    failed is not tried again at once.
    """
    if votes_counted < loop.min_votes or votes_since == 0:
        return None
    if loop.votes_per_iteration is not None and votes_since >= loop.votes_per_iteration:
        return "count"
    if loop.interval_s is not None and elapsed_s >= loop.interval_s:
        return "time"
    return None


def _progress(session: Session) -> tuple[int, int, float]:
    began_at = iterations.last_began_at(session)
    counted = votes.count_by_state(session).get("counted", 0)
    first = votes.first_counted_at(session)
    since = began_at if began_at is not None else (first if first is not None else now(session))
    return counted, votes.counted_since(session, began_at or 0.0), now(session) - since


def main() -> None:
    """Look again and again until SIGTERM."""
    die_with_parent()
    settings = load_settings()
    logs.configure(settings)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    scheduler = Scheduler(settings, Store(settings.record_url), make_sender(settings))
    while not stopping.wait(min(settings.loop.check_interval_s, settings.feedback.sweep_interval_s)):
        try:
            scheduler.look()
        except RecordUnavailable as error:
            log.warning("%s", error.message)


if __name__ == "__main__":
    main()
