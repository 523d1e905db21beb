"""How a policy becomes a folder that can be served: written aside, checked, then moved into place in one step."""

import shutil
from pathlib import Path

from feedback import manifest
from feedback.schema import version_name
from learner.lora import save_adapter
from learner.policy import Policy, save_policy, write_probe


def publish_folder(
    policy: Policy, policies_dir: Path, version: int, *, base: tuple[str, str] | None = None
) -> tuple[Path, str]:
    """Write `policy` as `policies_dir/vN` with its manifest. Returns the folder and the policy's digest.

    With `base`, the name and digest of another version, the policy is an adapter on that one and is written as such.

    A folder of that name must not be in the record yet: what stands there is from a run that was killed, and goes.
    Raises PolicyInvalid for weights that are not finite.
    """
    folder = policies_dir / version_name(version)
    unfinished = policies_dir / f".{folder.name}.unfinished"
    for leftover in (unfinished, folder):
        if leftover.exists():
            shutil.rmtree(leftover)
    unfinished.mkdir(parents=True)
    if base is None:
        save_policy(policy, unfinished)
    else:
        save_adapter(policy.model, unfinished)
        write_probe(policy, unfinished)
    digest = manifest.write(unfinished, base=base)
    unfinished.rename(folder)
    return folder, digest
