"""Following the record: the engines are started once there is a policy to serve, and this process keeps up with what is
set and promoted through others.
"""

import asyncio
import contextlib
import logging
import time

from feedback.errors import Conflict, TandemError
from feedback.schema import version_name
from feedback.store import policies, traffic
from feedback.store.presence import Asked
from serve import background
from serve.engine.challengers import Challengers
from serve.engine.changing import Changing
from serve.engine.participant import Participant
from serve.engine.policy_folders import PolicyFolders
from serve.engine.pool import Pool
from serve.engine.presence import Presence
from serve.engine.starting import Starter
from serve.engine.supervision import Supervision
from serve.engine.swap import Promoter
from serve.record import RECORD_ERRORS, Record

log = logging.getLogger(__name__)

REFRESH_INTERVAL_S = 1.0
# However many chats ask for it, the record is not read more often.
SHORTEST_ROUND_S = 0.05
# A version that could not be loaded here is tried again after this time.
FOLLOW_AGAIN_S = 30.0


class Following:
    """`run` goes on until it is cancelled. `made_at` says of each version that was loaded when it was made, in seconds
    since the epoch; `part` is what this process does in a promotion that another one leads.
    """

    def __init__(
        self,
        pool: Pool,
        record: Record,
        folders: PolicyFolders,
        starter: Starter,
        supervision: Supervision,
        own: Presence,
        changing: Changing,
        promoter: Promoter,
        participant: Participant,
        challengers: Challengers,
    ) -> None:
        self._pool = pool
        self._record = record
        self._folders = folders
        self._starter = starter
        self._supervision = supervision
        self._own = own
        self._changing = changing
        self._promoter = promoter
        self._participant = participant
        self._challengers = challengers
        self.made_at: dict[int, float] = {}
        self.part: asyncio.Task[None] | None = None
        self._last_part = 0
        self._not_before = 0.0

    async def run(self) -> None:
        """Look again and again."""
        answers = True
        while True:
            try:
                if self._pool.serving is None:
                    self._pool.stale.clear()
                    await self._start_engines()
                else:
                    await self._follow_changes()
                    await self._note_when_versions_were_made()
                answers = True
            except RECORD_ERRORS as error:
                # Told once: while chats wait for it, it is asked twenty times a second.
                if answers:
                    log.warning("the record does not answer (%s)", type(error).__name__)
                answers = False
            except Exception as error:  # noqa: BLE001 - it may be better in the next round; without one nobody follows
                background.tell("the record could not be followed", error)
            await self._until_there_is_news()

    async def _until_there_is_news(self) -> None:
        """For at most REFRESH_INTERVAL_S."""
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(background.next_round(REFRESH_INTERVAL_S)):
                await self._pool.stale.wait()
        await asyncio.sleep(max(0.0, began + SHORTEST_ROUND_S - time.monotonic()))

    async def _follow_changes(self) -> None:
        """Shares and what serves may have been changed through another process, or be about to."""
        before = self._pool.serving
        self._pool.stale.clear()
        self._pool.is_following = True
        try:
            standing = await self._record.standing()
            self._pool.shares, self._pool.candidates = standing.shares, standing.candidates
            serving, asked = standing.serving, standing.asked
            if asked is not None:
                self._take_part(asked)
            if serving is not None and not self._changing.busy and self._pool.serving == before:
                await self._serve(serving)
            if asked is None and serving is not None and serving == self._pool.serving:
                self._challengers.look()
        finally:
            self._pool.is_following = False
            self._pool.admission.serve_waiting()

    def _take_part(self, asked: Asked) -> None:
        """In a promotion that another process leads, once. Whoever gives nobody what serves is not waited for."""
        if self._pool.is_open and not self._changing.busy and asked.epoch != self._last_part:
            self._last_part = asked.epoch
            name = f"preparing {version_name(asked.version)}"
            self.part = background.start(self._participant.take_part(asked), name)

    async def _serve(self, version: int) -> None:
        """What the record says serves."""
        if version != self._pool.serving and self._pool.is_open:
            self._own.lapse()
        # The same may serve from another engine by now: it was promoted again since the last look.
        if not self._pool.holders(version):
            await self._supervision.look_for(version)
        if self._changing.busy:
            return
        if self._pool.holders(version):
            self._pool.serving = version
            if not self._pool.is_open:
                await self._own.enter()
        elif all(slot.state == "ready" for slot in self._pool.slots) and time.monotonic() > self._not_before:
            await self._load_here(version)

    async def _load_here(self, version: int) -> None:
        """It was promoted through a process that drives other engines than these."""
        try:
            await self._promoter.follow(version)
        except Conflict:
            return
        except TandemError as error:
            self._not_before = time.monotonic() + FOLLOW_AGAIN_S
            log.warning("%s serves elsewhere and could not be loaded here: %s", version_name(version), error.message)

    async def _note_when_versions_were_made(self) -> None:
        for version in self._pool.loaded():
            if version not in self.made_at:
                self.made_at[version] = (await self._record.read_once(policies.get, version)).created_at

    async def _start_engines(self) -> None:
        serving = await self._record.read_once(policies.serving)
        if serving is None:
            return
        self._pool.shares = await self._record.read_once(traffic.get)
        other = self._pool.shares.challenger
        if other is None:
            other = await self._record.read(policies.rollback_target)
        bases = {version: await self._base_of(version) for version in {serving.version, other} if version is not None}
        # Not before all is known that may fail: where something serves no engines are started.
        self._pool.serving = serving.version
        found = [await self._starter.found(slot) for slot in self._pool.slots]
        versions = assign(found, bases[serving.version], None if other is None else bases[other])
        adapters = {version: base for version, base in bases.items() if version != base}
        self._supervision.start(versions, adapters)

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
