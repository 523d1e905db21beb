"""The judges of a policy version: what the iteration that made it measures and serves by. They stay in its folder, and
with `policies_url` they are in object storage too, from which a machine that has not got them takes them.

A manifest lists their files; its digest is in the version's evidence, as `judges`. Versions of earlier releases have
none: their judges are where they were made.
"""

from pathlib import Path

from feedback import manifest, object_storage
from feedback.errors import PolicyInvalid
from feedback.schema import Policy
from feedback.settings import Settings

PREFERENCE, WATCH, STRANGE_PROMPTS, HARMFUL_PROMPTS = "preference", "watch", "strange_prompts", "harmful_prompts.json"
PARTS = (PREFERENCE, WATCH, STRANGE_PROMPTS, HARMFUL_PROMPTS)


def write_manifest(folder: Path) -> str:
    """Of the folder of an iteration. Returns its digest."""
    return manifest.keep(folder, {"files": manifest.digest_files(folder, PARTS)})


def digest_of(policy: Policy) -> str | None:
    """The digest of a version's judges; None where it has none, or they were kept without."""
    digest: str | None = policy.evidence.get("judges", {}).get("sha256")
    return digest


def here(settings: Settings, policy: Policy) -> Path:
    """Where a version's judges are in this home, if they are."""
    return settings.home / "iterations" / str(policy.iteration_id)


def are_here(settings: Settings, policy: Policy) -> bool:
    """Whether this home holds what the version was published with; their files are not read."""
    digest = digest_of(policy)
    try:
        return digest is not None and bool(manifest.read(here(settings, policy), digest))
    except PolicyInvalid:
        return False


def folder_of(settings: Settings, policy: Policy) -> Path:
    """The folder that holds a version's judges, brought here if need be and to be had; what was here already is not
    checked. Raises PolicyInvalid for what is not what was published, StorageUnavailable."""
    folder, digest = here(settings, policy), digest_of(policy)
    if digest is not None and settings.policies_url is not None and not are_here(settings, policy):
        object_storage.bring(
            settings,
            folder,
            digest,
            is_here=lambda: are_here(settings, policy),
            verify=manifest.verify_files,
        )
    return folder
