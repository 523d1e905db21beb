"""The object storage that `policies_url` names: folders under the digest of their manifest, put there before the record
names them, and brought from there to a machine that has not got them. What arrives is held against its digest before it
gets its name.

Nothing there is ever replaced by something else; a manifest is written last and read first.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from feedback import manifest
from feedback.errors import PolicyInvalid, StorageUnavailable
from feedback.settings import Settings

log = logging.getLogger(__name__)

# Storage that other libraries than fsspec's own speak to, and that pyarrow brings along.
OF_PYARROW = ("s3://", "gs://", "gcs://", "abfs://", "abfss://")
PAUSES_S = (1.0, 5.0, 15.0, 60.0)
MAX_MANIFEST_BYTES = 100_000_000
ARRIVING, REMOVED = ".arriving", ".removed"
"""Endings of folders that are not whole; `tandem prune` clears away what a kill left of the latter."""


class Storage:
    """The folder of an object storage at `url`. Every method raises StorageUnavailable when it does not answer."""

    def __init__(self, url: str) -> None:
        with _speaking():
            self._files, self._root = _open(url)

    def put(self, folder: Path, digest: str) -> None:
        """Put the files of a folder's manifest there, itself last. What is there already is left as it is."""
        with _speaking():
            if self._files.exists(self._path(digest, manifest.MANIFEST)):
                return
            for name in [*manifest.read(folder, digest)["files"], manifest.MANIFEST]:
                self._files.makedirs(self._path(digest, name).rpartition("/")[0], exist_ok=True)
                self._files.put_file(str(folder / name), self._path(digest, name))

    def manifest(self, digest: str) -> dict[str, Any] | None:
        """The manifest of this digest; None when there is none. Raises PolicyInvalid for another one in its place."""
        with _speaking():
            try:
                if (self._files.size(self._path(digest, manifest.MANIFEST)) or 0) > MAX_MANIFEST_BYTES:
                    raise PolicyInvalid(f"the manifest of {digest[:12]} in the object storage is none")
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
        """Bring what has this digest into `folder`, unchecked but for names and sizes. False when it is not there.

        Raises PolicyInvalid when the manifest is another one or names a file outside the folder, or a file is missing
        or of another size, which might fill the disk.
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
                    size = self._files.size(self._path(digest, name))
                    if name in listed["files"] and size not in (None, listed["files"][name]["bytes"]):
                        raise PolicyInvalid(
                            f"{name} of {digest[:12]} in the storage was changed after it was published"
                        )
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


def bring(
    settings: Settings, folder: Path, digest: str, *, is_here: Callable[[], bool], verify: Callable[[Path, str], object]
) -> None:
    """Bring what has this digest from the storage to `folder`, unless another process of this machine just did.

    Raises PolicyInvalid when it is not there either, or `verify` finds that it is not what was published;
    StorageUnavailable.
    """
    storage = storage_of(settings)
    if storage is None:
        raise PolicyInvalid(f"the folder of {folder.name} is missing")
    with _one_at_a_time(folder.parent):
        if not is_here():
            _fetch(storage, digest, folder, verify)


def _fetch(storage: Storage, digest: str, folder: Path, verify: Callable[[Path, str], object]) -> None:
    began = time.monotonic()
    arriving, gone = (folder.with_name(f".{folder.name}{ending}") for ending in (ARRIVING, REMOVED))
    shutil.rmtree(arriving, ignore_errors=True)
    arriving.mkdir()
    try:
        if not storage.get(digest, arriving):
            raise PolicyInvalid(f"{folder.parent.name}/{folder.name} is neither here nor in the object storage")
        verify(arriving, digest)
        if folder.is_dir():
            # Of a learner that was overtaken by one elsewhere.
            shutil.rmtree(gone, ignore_errors=True)
            folder.rename(gone)
        arriving.rename(folder)
    finally:
        for left in (arriving, gone):
            shutil.rmtree(left, ignore_errors=True)
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
