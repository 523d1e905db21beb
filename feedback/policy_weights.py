"""Where the weights of a policy version are: in the home, and with `policies_url` in object storage too, from which a
machine that has not got them takes them (`feedback.object_storage`).
"""

import functools
from pathlib import Path

from feedback import judges, manifest, object_storage
from feedback.adapters import Base
from feedback.errors import InvalidRequest, PolicyInvalid
from feedback.object_storage import storage_of
from feedback.schema import version_name, version_number
from feedback.settings import Settings
from feedback.store import Store, policies


def upload(store: Store, settings: Settings) -> list[str]:
    """Put every version that is in the home into the storage, and its judges, all checked. Returns the names of the
    versions that are there now.

    Raises InvalidRequest where no storage is set, PolicyInvalid, StorageUnavailable.
    """
    storage = storage_of(settings)
    if storage is None:
        raise InvalidRequest("no object storage is set: policies_url in tandem.toml, or TANDEM_POLICIES_URL")
    rows = store.read(policies.list_all)
    for row in rows:
        folder = settings.home / row.path
        if folder.is_dir() and storage.manifest(row.digest) is None:
            manifest.verify(folder, row.digest)
            storage.put(folder, row.digest)
        of_judges = judges.digest_of(row)
        if of_judges is not None and judges.are_here(settings, row) and storage.manifest(of_judges) is None:
            manifest.verify_files(judges.here(settings, row), of_judges, judges.PARTS)
            storage.put(judges.here(settings, row), of_judges)
    return [version_name(row.version) for row in rows if storage.manifest(row.digest) is not None]


def bring(settings: Settings, path: str, digest: str) -> Path:
    """The folder that the record has at `path` below the home, brought from the storage if it is not here.

    Raises PolicyInvalid when it is to be had nowhere, lies outside the folder of policies or is not what was published;
    StorageUnavailable. What was here already is not checked again.
    """
    root = settings.policies_dir.resolve()
    folder = (settings.home / path).resolve()
    if not folder.is_relative_to(root):
        raise PolicyInvalid(f"{path} is not inside {root}")
    if not folder.is_dir():
        object_storage.bring(settings, folder, digest, is_here=folder.is_dir, verify=manifest.verify)
    return folder


def folder_of(store: Store, settings: Settings, version: int) -> Path:
    """The folder of a version, brought here if need be, with the very files that were published: what is learnt from
    others would be published in its turn. Raises NotFound, and as `bring`."""
    policy = store.read(policies.get, version)
    folder = bring(settings, policy.path, policy.digest)
    _verify_files(folder, policy.digest, tuple(map(_stamp, sorted(folder.rglob("*")))))
    return folder


# Large weights take long, and an iteration asks for the same ones again and again.
@functools.lru_cache
def _verify_files(folder: Path, digest: str, _stamps: tuple[tuple[int, ...], ...]) -> None:
    """As `manifest.verify_files`, once for as long as nobody writes to any of the files."""
    manifest.verify_files(folder, digest)


def _stamp(path: Path) -> tuple[int, ...]:
    """Another one when the file was written, or another one took its place: whoever writes can set its time, but not
    that of its inode."""
    of = path.lstat()
    return of.st_dev, of.st_ino, of.st_size, of.st_ctime_ns


def base_of(settings: Settings, digest: str) -> Base | None:
    """What an adapter in the storage stands on, as `adapters.base_of` for one that is here."""
    storage = storage_of(settings)
    base = ((storage.manifest(digest) if storage else None) or {}).get("base")
    return None if base is None else Base(version_number(base["version"]), str(base["digest"]))
