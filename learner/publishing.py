"""How a policy becomes a folder that can be served: written aside, checked, then moved into place in one step."""

import shutil
from pathlib import Path

from feedback import manifest
from feedback.schema import version_name
from learner.policy import Policy, save_policy


def publish_folder(policy: Policy, policies_dir: Path, version: int) -> tuple[Path, str]:
    """Write `policy` as `policies_dir/vN` with its manifest. Returns the folder and the policy's digest.

    A folder of that name must not be in the record yet: what stands there is from a run that was killed, and goes.
    Raises PolicyInvalid for weights that are not finite.
    """
    folder = policies_dir / version_name(version)
    unfinished = policies_dir / f".{folder.name}.unfinished"
    for leftover in (unfinished, folder):
        if leftover.exists():
            shutil.rmtree(leftover)
    unfinished.mkdir(parents=True)
    save_policy(policy, unfinished)
    digest = manifest.write(unfinished)
    unfinished.rename(folder)
    return folder, digest
