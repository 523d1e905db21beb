"""Where the weights of a policy version are, and whether they may be served."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import orjson

from feedback.errors import PolicyInvalid
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


@dataclass(frozen=True)
class Probe:
    """Tokens with the log-probability that the learner found for each of those from `prompt_length` on."""

    tokens: list[int]
    prompt_length: int
    logprobs: list[float]


class PolicyFolders:
    """Folders of `settings.policies_dir` only, whatever the record says."""

    def __init__(self, settings: Settings, record: Record) -> None:
        self._settings = settings
        self._record = record

    async def of(self, version: int) -> PolicyFolder:
        """Raises NotFound when there is no such version, PolicyInvalid when its folder is somewhere else."""
        policy = await self._record.read(policies.get, version)
        root = self._settings.policies_dir.resolve()
        folder = (self._settings.home / policy.path).resolve()
        if not folder.is_relative_to(root):
            raise PolicyInvalid(f"the folder of {version_name(version)} is not inside {root}")
        if not folder.is_dir():
            raise PolicyInvalid(f"the folder of {version_name(version)} is missing")
        return PolicyFolder(version, folder, policy.digest)

    async def verify(self, policy: PolicyFolder) -> None:
        """Check digests, tensors and finiteness, in a thread. Raises PolicyInvalid."""
        # numpy comes with it: not before it is needed.
        from feedback import manifest

        await asyncio.to_thread(manifest.verify, policy.folder, policy.digest)

    async def probes(self, policy: PolicyFolder) -> list[Probe]:
        """What the learner computed for this version, to hold the engine to. Raises PolicyInvalid."""
        path = policy.folder / "probe.json"
        try:
            items = orjson.loads(await asyncio.to_thread(path.read_bytes))["items"]
            probes = [Probe(item["tokens"], item["prompt_length"], item["logprobs"]) for item in items]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PolicyInvalid(f"{policy.folder.name}: probe.json cannot be read ({type(error).__name__})") from error
        if not probes:
            raise PolicyInvalid(f"{policy.folder.name}: probe.json holds no probe")
        return probes
