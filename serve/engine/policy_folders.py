"""Where the weights of a policy version are, and whether they may be served."""

import asyncio
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from feedback import adapters, chat_template, verification
from feedback.adapters import Base
from feedback.errors import PolicyInvalid, RecordUnavailable, StorageUnavailable
from feedback.schema import version_name
from feedback.settings import Settings
from feedback.store import policies
from serve.record import Record


@dataclass(frozen=True)
class PolicyFolder:
    """A version's folder and the digest that it was published with."""

    version: int
    folder: Path
    digest: str
    base: Base | None = None
    """For a LoRA adapter, the version that it stands on."""


@dataclass(frozen=True)
class Probe:
    """Tokens with the log-probability that the learner found for each of those from `prompt_length` on, computing in
    `number_format`."""

    tokens: list[int]
    prompt_length: int
    logprobs: list[float]
    number_format: str = "float32"


class PolicyFolders:
    """Folders of `settings.policies_dir` only, whatever the record says."""

    def __init__(self, settings: Settings, record: Record) -> None:
        self._settings = settings
        self._record = record
        # As the record has said. It never changes: what was served can be put back while the record is away.
        self._known: dict[int, tuple[str, str]] = {}
        self._found: dict[tuple[str, str], Path] = {}
        # Those that are being looked for, each once, whoever waits for it: threads that wait for a storage are few.
        self._coming: dict[tuple[str, str], asyncio.Task[Path]] = {}

    async def of(self, version: int) -> PolicyFolder:
        """It is brought here first where it is in object storage only.

        Raises NotFound when there is no such version, PolicyInvalid when its folder is somewhere else or is not what
        was published, or its chats could not begin with `serve.system_prompt`, StorageUnavailable, also when it takes
        longer than `engine.start_timeout_s`.
        """
        try:
            policy = await self._record.read_once(policies.get, version)
            self._known[version] = policy.path, policy.digest
        except RecordUnavailable:
            if version not in self._known:
                raise
        path, digest = self._known[version]
        timeout_s = self._settings.engine.start_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                folder = await self._folder(path, digest)
        except TimeoutError:
            # It comes on in its thread, and the next one who asks may find it here.
            raise StorageUnavailable(
                f"{version_name(version)} has not come from the object storage within {timeout_s:g} s; try again later"
            ) from None
        chat_template.check_takes_system_prompt(folder, version_name(version), self._settings)
        return PolicyFolder(version, folder, digest, adapters.base_of(folder))

    async def _folder(self, path: str, digest: str) -> Path:
        """As `policy_weights.bring`; whoever leaves does not end what others wait for."""
        wanted = path, digest
        found = self._found.get(wanted)
        if found is not None and found.is_dir():
            return found
        if wanted not in self._coming:
            self._coming[wanted] = asyncio.create_task(asyncio.to_thread(_bring, self._settings, path, digest))
            self._coming[wanted].add_done_callback(lambda task: self._came(wanted, task))
        return await asyncio.shield(self._coming[wanted])

    def _came(self, wanted: tuple[str, str], task: "asyncio.Task[Path]") -> None:
        del self._coming[wanted]
        if not task.cancelled() and task.exception() is None:
            self._found[wanted] = task.result()

    async def base_of(self, policy: PolicyFolder) -> PolicyFolder:
        """What an adapter stands on; another policy is its own base. Raises as `of`, and PolicyInvalid for an adapter
        on an adapter, on other weights than the base's, or where engines take none.
        """
        if policy.base is None:
            return policy
        if not self._settings.engine.adapters:
            raise PolicyInvalid(
                f"{version_name(policy.version)} is an adapter, and engines take none: set engine.adapters and restart"
            )
        base = await self.of(policy.base.version)
        if base.base is not None or base.digest != policy.base.digest:
            raise PolicyInvalid(f"{policy.folder.name} was not made for {version_name(base.version)} as it is here")
        return base

    async def verify(self, policy: PolicyFolder) -> None:
        """Check digests, tensors and finiteness, and whether an adapter fits its base. Raises PolicyInvalid, also when
        the files cannot be read in `engine.start_timeout_s`.
        """
        base, engine = await self.base_of(policy), self._settings.engine
        await asyncio.to_thread(verification.verify, policy.folder, policy.digest, engine.start_timeout_s)
        if policy.base is not None:
            await asyncio.to_thread(_check_fits, policy, base, engine.max_adapter_rank)

    async def probes(self, policy: PolicyFolder) -> list[Probe]:
        """What the learner computed for this version, to hold the engine to. Raises PolicyInvalid."""
        path = policy.folder / "probe.json"
        try:
            said = orjson.loads(await asyncio.to_thread(path.read_bytes))
            items, number_format = said["items"], said.get("dtype", "float32")
            probes = [_probe(item, number_format) for item in items]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PolicyInvalid(f"{policy.folder.name}: probe.json cannot be read ({type(error).__name__})") from error
        if not probes:
            raise PolicyInvalid(f"{policy.folder.name}: probe.json holds no probe")
        return probes


def _probe(item: dict[str, Any], number_format: str) -> Probe:
    """Raises ValueError, KeyError and TypeError for what is none."""
    probe = Probe(item["tokens"], item["prompt_length"], item["logprobs"], number_format)
    told = len(probe.logprobs)
    if probe.prompt_length < 1 or told < 1 or len(probe.tokens) != probe.prompt_length + told:
        raise ValueError("not a log-probability for each token after the prompt")
    counted = (probe.prompt_length, *probe.tokens)
    if not all(isinstance(number, int) for number in counted) or not all(map(math.isfinite, probe.logprobs)):
        raise ValueError("no tokens, or no log-probabilities")
    return probe


def _check_fits(policy: PolicyFolder, base: PolicyFolder, max_rank: int) -> None:
    # numpy comes with it: not before it is needed.
    from feedback import manifest

    tensors, of_base = manifest.read(policy.folder)["tensors"], manifest.read(base.folder, base.digest)["tensors"]
    adapters.check_fits(policy.folder, tensors, of_base, max_rank)


def _bring(settings: Settings, path: str, digest: str) -> Path:
    # numpy comes with it: not before it is needed.
    from feedback import policy_weights

    return policy_weights.bring(settings, path, digest)
