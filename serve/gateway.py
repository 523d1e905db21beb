"""The parts of one API process, put together once and handed to every route."""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from feedback.schema import Iteration
from feedback.settings import Settings
from feedback.store import Store, audit, iterations
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
from serve.engine.following import Following
from serve.engine.launcher_client import LauncherClient
from serve.engine.launcher_protocol import engines_of
from serve.engine.loading import Loader
from serve.engine.other_hosts import OtherHosts
from serve.engine.participant import Participant
from serve.engine.policy_folders import PolicyFolders
from serve.engine.pool import Pool
from serve.engine.presence import Presence
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
            spare_seats=settings.engine.spare_seqs,
            max_queued=settings.serve.max_queued_requests,
            take_adapters=settings.engine.adapters > 0,
            older_share=settings.serve.older_share,
        )
        launcher, engines = LauncherClient(settings.run_dir), engines_of(settings.run_dir)
        folders = PolicyFolders(settings, self.record)
        adapters = Adapters(self.pool, folders, settings.run_dir, settings.engine)
        self.presence = Presence(self.record, self.pool, engines, settings.run_dir)
        starter = Starter(launcher, folders, adapters, self.record, settings.engine, engines, self.presence.life)
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
        participant = Participant(self.pool, flipping, self.record, self.presence, self.supervision, changing)
        self.scorer = Scorer(settings.run_dir, self.record, settings.serve.request_timeout_s)
        self.strange_prompts = StrangePrompts(self.scorer, settings.serve)
        self.autopilot = Autopilot(settings.automatic, settings.gate, self.record, self.promoter, self.challengers)
        self.stopping = asyncio.Event()
        self.retries = SharedRetries(settings.broker_url)
        self.queue = RedisLink(settings.broker_url, "depths of the queues are not known")
        self.rate_limits = RateLimits(settings.serve, settings.broker_url)
        self.following = Following(
            self.pool,
            self.record,
            folders,
            starter,
            self.supervision,
            self.presence,
            changing,
            self.promoter,
            participant,
            self.challengers,
        )
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
            background.start(self.following.run(), "following the record"),
            background.start(self.presence.run(), "the lease on serving"),
        ]
        if self.settings.automatic.enabled:
            self._tasks.append(background.start(self.autopilot.run(), "promotion by rule"))

    async def stop(self) -> None:
        self.stopping.set()
        self.bell.close()
        tasks = self._tasks if self.following.part is None else [*self._tasks, self.following.part]
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

    def _listen(self) -> None:
        """Another process of this home says that something was changed."""
        try:
            self.bell.listen(self.pool.stale.set)
        except OSError as error:
            log.warning("changes through other processes are noticed within a second only (%s)", error.strerror)


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
