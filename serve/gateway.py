"""The parts of one API process, put together once and handed to every route."""

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from feedback.errors import Conflict, RecordUnavailable, TandemError
from feedback.schema import Iteration, version_name
from feedback.settings import Settings
from feedback.store import Store, audit, iterations, policies, traffic
from feedback.store.presence import Asked
from serve import background
from serve.auth import Keyring
from serve.autopilot import Autopilot
from serve.chat.rate_limits import RateLimits
from serve.chat.shared_retries import SharedRetries
from serve.engine.adapters import Adapters
from serve.engine.bell import Bell
from serve.engine.challengers import Challengers
from serve.engine.changing import Changing
from serve.engine.fence import Fence
from serve.engine.flipping import Flipping
from serve.engine.launcher_client import LauncherClient
from serve.engine.loading import Loader
from serve.engine.other_hosts import OtherHosts
from serve.engine.participant import Participant
from serve.engine.policy_folders import PolicyFolders
from serve.engine.pool import Pool
from serve.engine.presence import Presence
from serve.engine.slots import engines_of
from serve.engine.starting import Starter
from serve.engine.supervision import Supervision
from serve.engine.swap import Promoter
from serve.metrics import Metrics
from serve.record import Record
from serve.recorder import Recorder
from serve.redis_link import RedisLink
from serve.scorer import Scorer
from serve.strange_prompts import StrangePrompts

if TYPE_CHECKING:
    from feedback.queue import VoteHints

log = logging.getLogger(__name__)

REFRESH_INTERVAL_S = 1.0
# However many chats ask for it, the record is not read more often.
SHORTEST_ROUND_S = 0.05
# A version that could not be loaded here is tried again after this time.
FOLLOW_AGAIN_S = 30.0
# An engine ends a reply within a second, or never (`serve.engine.client`); then the record needs a moment. What was
# loaded to be promoted is put back in about as much.
LAST_S = 3.0


class Gateway:
    """Everything that a route works with. `start` returns at once; `readyz` says when the engines are there."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.record = Record(Store(settings.record_url, checkpoints=False))
        self.recorder = Recorder(self.record)
        self.keyring = Keyring(self.record)
        self.pool = Pool(
            settings.run_dir,
            settings.engine.slots,
            seats_per_slot=settings.engine.max_num_seqs,
            max_queued=settings.serve.max_queued_requests,
            take_adapters=settings.engine.adapters > 0,
            older_share=settings.serve.older_share,
        )
        launcher, engines = LauncherClient(settings.run_dir), engines_of(settings.run_dir)
        self._folders = folders = PolicyFolders(settings, self.record)
        adapters = Adapters(self.pool, folders, settings.run_dir, settings.engine)
        self.presence = Presence(self.record, self.pool, engines, settings.run_dir)
        self._starter = starter = Starter(
            launcher, folders, adapters, self.record, settings.engine, engines, self.presence.life
        )
        loader = Loader(self.pool, starter, folders, adapters, settings.engine, self.metrics)
        fence = Fence(self.record, self.presence.id, in_passing=True)
        self.supervision = Supervision(self.pool, starter, loader, folders, fence, settings.engine, self.metrics)
        self.bell = Bell(settings.run_dir)
        flipping = Flipping(self.pool, loader, folders, settings.engine, self.bell, self.metrics)
        others = OtherHosts(self.record, self.presence, settings.engine, self.bell, self.metrics)
        self._changing = changing = Changing(self.record, self.presence.id, settings.engine.swap_timeout_s)
        self.promoter = Promoter(
            self.pool, flipping, self.record, self.presence, others, self.metrics, settings.gate, changing
        )
        self.challengers = Challengers(
            self.pool, flipping, self.record, self.presence, self.supervision, self.bell, changing
        )
        self.participant = Participant(self.pool, flipping, self.record, self.presence, self.supervision, changing)
        self.scorer = Scorer(settings.run_dir, self.record, settings.serve.request_timeout_s)
        self.strange_prompts = StrangePrompts(self.scorer, settings.serve)
        self.autopilot = Autopilot(settings.automatic, settings.gate, self.record, self.promoter, self.challengers)
        self.stopping = asyncio.Event()
        self.retries = SharedRetries(settings.broker_url)
        self.queue = RedisLink(settings.broker_url, "depths of the queues are not known")
        self.rate_limits = RateLimits(settings.serve, settings.broker_url)
        self._follow_after = 0.0
        self._part: asyncio.Task[None] | None = None
        self._last_part = 0
        self.made_at: dict[int, float] = {}
        self._vote_hints: VoteHints | None = None
        self._hint: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._chats: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        await asyncio.to_thread(self.record.store.migrate)
        await self.presence.end_leases_of_the_dead()
        for name, section in (("gate", self.settings.gate), ("automatic", self.settings.automatic)):
            await self.record.write(audit.note_settings, name, section.model_dump(mode="json"))
        self._listen()
        self._tasks = [
            background.start(self._start_hints(), "vote hints"),
            background.start(self._follow_the_record(), "following the record"),
            background.start(self.presence.run(), "the lease on serving"),
        ]
        if self.settings.automatic.enabled:
            self._tasks.append(background.start(self.autopilot.run(), "promotion by rule"))

    async def stop(self) -> None:
        self.stopping.set()
        self.bell.close()
        tasks = self._tasks if self._part is None else [*self._tasks, self._part]
        for task in tasks:
            task.cancel()
        # The server has cancelled the chats and what was asked to be promoted, and does not wait until what was written
        # is recorded and the engines are as they were.
        last: set[asyncio.Task[Any]] = {*tasks, *self._chats}
        if self._changing.asking is not None:
            last.add(self._changing.asking)
        if last:
            await asyncio.wait(last, timeout=LAST_S)
        await self.challengers.stop()
        await self.supervision.stop()
        await self.presence.stop()
        if self._vote_hints is not None:
            await asyncio.to_thread(self._vote_hints.stop)
        await self.retries.stop()
        await self.rate_limits.stop()
        await self.queue.stop()
        await self.recorder.stop()
        self.record.close()

    async def start_iteration(self, reason: str | None, actor: str) -> Iteration:
        """Queue an iteration and tell the learner. Raises Conflict while another is queued or running."""
        iteration = await self.record.write(
            iterations.start_next,
            trigger="operator",
            learner=self.settings.learner.model_dump(mode="json"),
            reason=reason,
            actor=actor,
        )
        self._hint = background.start(asyncio.to_thread(_enqueue, self.settings, iteration.id), "iteration hint")
        return iteration

    def note_chat(self) -> None:
        """The task that runs answers a chat: `stop` waits for it."""
        task = asyncio.current_task()
        assert task is not None
        self._chats.add(task)
        task.add_done_callback(self._chats.discard)

    def vote_is_durable(self) -> None:
        """Tell the workers, some time soon. A vote that they are not told of is found by the sweeper."""
        if self._vote_hints is not None:
            self._vote_hints.notify()

    async def _start_hints(self) -> None:
        self._vote_hints = await asyncio.to_thread(_start_vote_hints, self.settings)

    async def _follow_the_record(self) -> None:
        """Start the engines once there is a policy to serve, then keep up with what is set through other processes."""
        while True:
            try:
                if self.pool.serving is None:
                    self.pool.stale.clear()
                    await self._start_engines()
                else:
                    await self._follow_changes()
                    await self._note_when_versions_were_made()
            except (SQLAlchemyError, RecordUnavailable) as error:
                log.warning("the record does not answer (%s)", type(error).__name__)
            except Exception as error:  # noqa: BLE001 - it may be better in the next round; without one nobody follows
                background.tell("the record could not be followed", error)
            await self._until_there_is_news()

    async def _until_there_is_news(self) -> None:
        """For at most REFRESH_INTERVAL_S."""
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(background.next_round(REFRESH_INTERVAL_S)):
                await self.pool.stale.wait()
        await asyncio.sleep(max(0.0, began + SHORTEST_ROUND_S - time.monotonic()))

    def _listen(self) -> None:
        """Another process of this home says that something was changed."""
        try:
            self.bell.listen(self.pool.stale.set)
        except OSError as error:
            log.warning("changes through other processes are noticed within a second only (%s)", error.strerror)

    async def _follow_changes(self) -> None:
        """Shares and what serves may have been changed through another process, or be about to."""
        before = self.pool.serving
        self.pool.stale.clear()
        self.pool.is_following = True
        try:
            standing = await self.record.standing()
            self.pool.shares, self.pool.candidates = standing.shares, standing.candidates
            serving, asked = standing.serving, standing.asked
            if asked is not None:
                self._take_part(asked)
            if serving is not None and not self.promoter.busy and self.pool.serving == before:
                await self._serve(serving)
            if asked is None and serving is not None and serving == self.pool.serving:
                self.challengers.look()
        finally:
            self.pool.is_following = False
            self.pool.admission.serve_waiting()

    def _take_part(self, asked: Asked) -> None:
        """In a promotion that another process leads, once. Whoever gives nobody what serves is not waited for."""
        if self.pool.is_open and not self.promoter.busy and asked.epoch != self._last_part:
            self._last_part = asked.epoch
            name = f"preparing {version_name(asked.version)}"
            self._part = background.start(self.participant.take_part(asked), name)

    async def _serve(self, version: int) -> None:
        """What the record says serves."""
        if version != self.pool.serving and self.pool.is_open:
            self.presence.lapse()
        # The same may serve from another engine by now: it was promoted again since the last look.
        if not self.pool.holders(version):
            await self.supervision.look_for(version)
        if self.promoter.busy:
            return
        if self.pool.holders(version):
            self.pool.serving = version
            if not self.pool.is_open:
                await self.presence.enter()
        elif all(slot.state == "ready" for slot in self.pool.slots) and time.monotonic() > self._follow_after:
            await self._load_here(version)

    async def _load_here(self, version: int) -> None:
        """It was promoted through a process that drives other engines than these."""
        try:
            await self.promoter.follow(version)
        except Conflict:
            return
        except TandemError as error:
            self._follow_after = time.monotonic() + FOLLOW_AGAIN_S
            log.warning("%s serves elsewhere and could not be loaded here: %s", version_name(version), error.message)

    async def _note_when_versions_were_made(self) -> None:
        for version in self.pool.loaded():
            if version not in self.made_at:
                self.made_at[version] = (await self.record.read(policies.get, version)).created_at

    async def _start_engines(self) -> None:
        serving = await self.record.read(policies.serving)
        if serving is None:
            return
        self.pool.shares = await self.record.read(traffic.get)
        other = self.pool.shares.challenger
        if other is None:
            with contextlib.suppress(Conflict):
                other = await self.record.read(policies.rollback_target)
        bases = {version: await self._base_of(version) for version in {serving.version, other} if version is not None}
        # Not before all is known that may fail: where something serves no engines are started.
        self.pool.serving = serving.version
        found = [await self._starter.found(slot) for slot in self.pool.slots]
        versions = assign(found, bases[serving.version], None if other is None else bases[other])
        adapters = {version: base for version, base in bases.items() if version != base}
        self.supervision.start(versions, adapters)

    async def _base_of(self, version: int) -> int:
        """The version whose weights an engine must hold to serve this one."""
        try:
            policy = await self._folders.of(version)
        except TandemError:
            # Its engine will not start, and says why.
            return version
        return version if policy.base is None else policy.base.version


def assign(found: list[int | None], serving: int, other: int | None) -> list[int]:
    """Which version each slot is to hold, given what living engines hold: those go on as they are if they serve.

    Anew, the last slot holds what the serving version is compared with, and all others serve.
    """
    if serving not in found:
        found = [None] * len(found)
    versions = [serving if held is None else held for held in found]
    if other is not None and other != serving and len(found) > 1 and found[-1] is None and other not in found:
        versions[-1] = other
    return versions


def _enqueue(settings: Settings, iteration_id: str) -> None:
    from feedback.queue import enqueue_iteration

    # Redis may be gone: then the scheduler hands the iteration on.
    enqueue_iteration(settings, iteration_id)


def _start_vote_hints(settings: Settings) -> "VoteHints":
    # Celery takes a second to import: engines need longer, and nobody waits for this.
    from feedback.queue import VoteHints

    hints = VoteHints(settings)
    hints.start()
    return hints
