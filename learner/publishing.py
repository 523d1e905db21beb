"""How a policy becomes a folder that can be served: written aside, checked, then moved into place in one step."""

import shutil
from pathlib import Path

from feedback import manifest
from feedback.schema import version_name
from learner.lora import save_adapter
from learner.policy import Policy, save_policy, write_probe


def publish_folder(policy: Policy, policies_dir: Path, version: int) -> tuple[Path, str]:
    """Write `policy` as `policies_dir/vN`, where nobody else publishes. Returns the folder and the policy's digest."""
    folder = policies_dir / version_name(version)
    aside, digest = write_aside(policy, folder, "")
    put_in_place(aside, folder)
    return folder, digest


def write_aside(policy: Policy, folder: Path, by: str, *, base: tuple[str, str] | None = None) -> tuple[Path, str]:
    """Write `policy` with its manifest beside where it is going to stand, under a name that only `by` uses. Returns
    where, and the policy's digest.

    With `base`, the name and digest of another version, the policy is an adapter on that one and is written as such.
    Raises PolicyInvalid for weights that are not finite.
    """
    aside = folder.with_name(f".{folder.name}.{by}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    if base is None:
        save_policy(policy, aside)
    else:
        save_adapter(policy.model, aside)
        write_probe(policy, aside)
    return aside, manifest.write(aside, base=base)


def put_in_place(aside: Path, folder: Path) -> None:
    """Move what was written aside to where it is served from. Again changes nothing.

    A folder of that name must not be in the record yet: what stands there, or aside, is from a run that was killed, and
    goes. So nobody else may publish meanwhile.
    """
    if not aside.exists():
        return
    for leftover in (folder, *folder.parent.glob(".*.unfinished")):
        if leftover != aside:
            shutil.rmtree(leftover, ignore_errors=True)
    aside.rename(folder)
