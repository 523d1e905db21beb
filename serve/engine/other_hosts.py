"""Leading the other API processes of the record through a promotion: they are asked to prepare it, stage by stage, and
waited for.

A process whose lease on serving has run out is not waited for: it gives what serves to nobody before it has caught up.
"""

import asyncio
import time

from feedback.errors import EngineUnavailable, RecordUnavailable
from feedback.settings import EngineSettings
from feedback.store import presence
from feedback.store.presence import Asked
from serve.engine.bell import Bell
from serve.engine.presence import Presence
from serve.metrics import Metrics
from serve.record import Record

POLL_S = 0.02
AFTER_SILENCE_S = 0.5


class HostsNotReady(EngineUnavailable):
    """Another host could not prepare the version, or did not in time."""

    code = "hosts_not_ready"


class OtherHosts:
    """Where this is the only API process nothing is asked of anybody, and nothing takes any time."""

    def __init__(self, record: Record, own: Presence, settings: EngineSettings, bell: Bell, metrics: Metrics) -> None:
        self._record = record
        self._own = own
        self._bell = bell
        self._metrics = metrics
        # Fetching and verifying is bounded by the one, loading by the other or both.
        self._timeout_s = settings.start_timeout_s + settings.swap_timeout_s

    async def ask(self, epoch: int, version: int, stage: str) -> None:
        """Have them go as far as `stage`. Raises LeaseLost."""
        asked = Asked(epoch, version, stage, self._own.id, self._own.engines)
        await self._record.write(presence.ask, asked)
        self._bell.ring()

    async def wait_for(self, epoch: int, stage: str) -> None:
        """Until all have. Raises HostsNotReady."""
        deadline = time.monotonic() + self._timeout_s
        with self._metrics.swap_step_seconds.labels("hosts").time():
            while True:
                said = await self._record.read(presence.reported, self._own.id, epoch, stage)
                if said.failed:
                    host, error = said.failed[0]
                    raise HostsNotReady(f"{host} could not prepare it: {error}")
                if not said.waiting:
                    return
                if time.monotonic() > deadline:
                    raise HostsNotReady(f"not ready after {self._timeout_s:g} s: {', '.join(said.waiting)}")
                await asyncio.sleep(POLL_S)

    async def wait_until_they_serve(self, version: int) -> list[str]:
        """Returns the hosts that do not, though they had time. A record that is away for a moment undoes nothing: it is
        asked again. Raises RecordUnavailable when it stays away.
        """
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                behind = await self._record.read(presence.behind, self._own.id, version)
                if not behind or time.monotonic() > deadline:
                    return behind
            except RecordUnavailable:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(AFTER_SILENCE_S)
            await asyncio.sleep(POLL_S)

    async def withdraw(self, epoch: int) -> None:
        """It will not be promoted: they put back what they have prepared."""
        await self._record.write(presence.withdraw, epoch)
