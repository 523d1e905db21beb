"""Where the weights of a policy version are: in the home, and with `policies_url` in object storage too, from which a
machine that has not got them takes them. What arrives is held against the version's digest before it gets its name.

In the storage a version stands under its digest, so nothing there is ever replaced by something else; its manifest is
written last and read first.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from feedback import manifest
from feedback.adapters import Base
from feedback.errors import InvalidRequest, PolicyInvalid, StorageUnavailable
from feedback.schema import version_name, version_number
from feedback.settings import Settings
from feedback.store import Store, policies

log = logging.getLogger(__name__)

# Storage that other libraries than fsspec's own speak to, and that pyarrow brings along.
OF_PYARROW = ("s3://", "gs://", "gcs://", "abfs://", "abfss://")
PAUSES_S = (1.0, 5.0, 15.0, 60.0)
ARRIVING = ".arriving"


class Storage:
    """The folder of an object storage at `url`. Every method raises StorageUnavailable when it does not answer."""

    def __init__(self, url: str) -> None:
        with _speaking():
            self._files, self._root = _open(url)

    def put(self, folder: Path, digest: str) -> None:
        """Put a published policy folder there, its manifest last. One that is there already is left as it is."""
        with _speaking():
            if self._files.exists(self._path(digest, manifest.MANIFEST)):
                return
            names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
            for name in sorted(names, key=lambda name: name == manifest.MANIFEST):
                self._files.makedirs(self._path(digest, name).rpartition("/")[0], exist_ok=True)
                self._files.put_file(str(folder / name), self._path(digest, name))

    def manifest(self, digest: str) -> dict[str, Any] | None:
        """The manifest of this digest; None when there is none. Raises PolicyInvalid for another one in its place."""
        with _speaking():
            try:
                content: bytes = self._files.cat_file(self._path(digest, manifest.MANIFEST))
            except FileNotFoundError:
                return None
        if hashlib.sha256(content).hexdigest() != digest:
            raise PolicyInvalid(
                f"the manifest of {digest[:12]} in the object storage is not the one that was published"
            )
        found: dict[str, Any] = orjson.loads(content)
        return found

    def get(self, digest: str, folder: Path) -> bool:
        """Bring what has this digest into `folder`, unchecked but for names. False when it is not there.

        Raises PolicyInvalid when the manifest is another one or names a file outside the folder.
        """
        listed = self.manifest(digest)
        if listed is None:
            return False
        with _speaking():
            for name in [manifest.MANIFEST, *listed["files"]]:
                parts = PurePosixPath(name).parts
                if not parts or name.startswith("/") or ".." in parts:
                    raise PolicyInvalid(f"the manifest of {digest[:12]} names a file outside its folder")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                try:
                    self._files.get_file(self._path(digest, name), str(folder / name))
                except FileNotFoundError:
                    raise PolicyInvalid(f"{name} of {digest[:12]} is missing in the object storage") from None
        return True

    def remove(self, digest: str) -> None:
        """Its manifest first, so that nobody takes what is going for whole."""
        with _speaking(), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._path(digest, manifest.MANIFEST))
            self._files.rm(f"{self._root}/{digest}", recursive=True)

    def _path(self, digest: str, name: str) -> str:
        return f"{self._root}/{digest}/{name}"


def storage_of(settings: Settings) -> Storage | None:
    """The storage that `policies_url` names, or None. Raises StorageUnavailable."""
    return None if settings.policies_url is None else Storage(settings.policies_url)


def publish(settings: Settings, folder: Path, digest: str) -> None:
    """Put a folder into the storage, if there is one, before the record names it; patiently.

    Raises StorageUnavailable when it did not answer for a minute and a half.
    """
    for pause_s in (*PAUSES_S, None):
        try:
            storage = storage_of(settings)
            if storage is not None:
                storage.put(folder, digest)
            return
        except StorageUnavailable as error:
            if pause_s is None:
                raise
            log.warning("%s; once more in %.0f s", error.message, pause_s)
            time.sleep(pause_s)


def upload(store: Store, settings: Settings) -> list[str]:
    """Put every version that is in the home into the storage, checked. Returns the names of those that are there now.

    Raises InvalidRequest where no storage is set, PolicyInvalid, StorageUnavailable.
    """
    storage = storage_of(settings)
    if storage is None:
        raise InvalidRequest("no object storage is set: policies_url in tandem.toml, or TANDEM_POLICIES_URL")
    rows, _ = store.read(policies.list_page, limit=1_000_000, after=None, order="asc")
    for row in rows:
        folder = settings.home / row.path
        if folder.is_dir() and storage.manifest(row.digest) is None:
            manifest.verify(folder, row.digest)
            storage.put(folder, row.digest)
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
    if folder.is_dir():
        return folder
    storage = storage_of(settings)
    if storage is None:
        raise PolicyInvalid(f"the folder of {folder.name} is missing")
    with _one_at_a_time(root):
        if not folder.is_dir():
            _fetch(storage, digest, folder)
    return folder


def folder_of(store: Store, settings: Settings, version: int) -> Path:
    """The folder of a version, brought here if need be. Raises NotFound, and as `bring`."""
    policy = store.read(policies.get, version)
    return bring(settings, policy.path, policy.digest)


def base_of(settings: Settings, digest: str) -> Base | None:
    """What an adapter in the storage stands on, as `adapters.base_of` for one that is here."""
    storage = storage_of(settings)
    base = ((storage.manifest(digest) if storage else None) or {}).get("base")
    return None if base is None else Base(version_number(base["version"]), str(base["digest"]))


def _fetch(storage: Storage, digest: str, folder: Path) -> None:
    began = time.monotonic()
    arriving = folder.with_name(f".{folder.name}{ARRIVING}")
    shutil.rmtree(arriving, ignore_errors=True)
    arriving.mkdir()
    try:
        if not storage.get(digest, arriving):
            raise PolicyInvalid(f"the weights of {folder.name} are neither here nor in the object storage")
        manifest.verify(arriving, digest)
        arriving.rename(folder)
    finally:
        shutil.rmtree(arriving, ignore_errors=True)
    log.info("%s came from the object storage in %.1f s", folder.name, time.monotonic() - began)


@contextlib.contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Engines, learner and scorer of one machine may want the same version at once: one of them fetches it."""
    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root / ".arriving.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open(url: str) -> tuple[Any, str]:
    """A file system of fsspec, and the path in it. Imported here: most homes have no storage."""
    if url.startswith(OF_PYARROW):
        from fsspec.implementations.arrow import ArrowFSWrapper
        from pyarrow.fs import FileSystem

        files, path = FileSystem.from_uri(url)
        return ArrowFSWrapper(files), path.rstrip("/")
    from fsspec.core import url_to_fs

    found, path = url_to_fs(url)
    return found, path.rstrip("/")


@contextlib.contextmanager
def _speaking() -> Iterator[None]:
    try:
        yield
    except PolicyInvalid:
        raise
    except Exception as error:
        # Each storage has errors of its own. Their text may hold keys from the URL: their kind is enough.
        raise StorageUnavailable(f"the object storage does not answer ({type(error).__name__})") from error
