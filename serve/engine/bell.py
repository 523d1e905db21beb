"""A file that whoever changes what serves touches, so that the other API processes of a home look at the record at once
instead of at their next round. The kernel tells them of it: nobody looks at the file again and again.
"""

import asyncio
import ctypes
import errno
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

IN_MOVED_TO = 0x80
EVENTS_BYTES = 1 << 16


class Bell:
    """`heard` is true once after each `ring` of any process."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / "changed"
        self._last = self._rung_at()
        self._watch: int | None = None

    def ring(self) -> None:
        """Never raises: what is told of has happened, and the others look at the record within a second anyway."""
        # Written anew: a file's own time goes by steps of some milliseconds. Each process has a name of its own for it;
        # those of two containers may have the same number.
        aside = self._path.with_suffix(f".{socket.gethostname()}.{os.getpid()}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            aside.touch(0o600)
            aside.replace(self._path)
        except OSError as error:
            log.warning("other processes of this home are not told of a change (%s)", error.strerror)

    def heard(self) -> bool:
        if self._watch is not None:
            _empty(self._watch)
        rung_at = self._rung_at()
        rung, self._last = rung_at != self._last, rung_at
        return rung

    def listen(self, on_ring: Callable[[], object]) -> None:
        """Have the running event loop call `on_ring` after each ring from now on (Linux, inotify(7)).

        Raises OSError where the kernel watches no more.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._watch = _watch(self._path.parent)
        asyncio.get_running_loop().add_reader(self._watch, lambda: self.heard() and on_ring())

    def close(self) -> None:
        """In the loop that listens; nothing happens where none does."""
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch)
            os.close(self._watch)
            self._watch = None

    def _rung_at(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns


def _watch(folder: Path) -> int:
    """A file descriptor that can be read when a file has been put into its place in `folder`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "inotify_init1"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    watch: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if watch < 0 or libc.inotify_add_watch(watch, os.fsencode(folder), IN_MOVED_TO) < 0:
        number = ctypes.get_errno()
        if watch >= 0:
            os.close(watch)
        raise OSError(number, os.strerror(number))
    return watch


def _empty(watch: int) -> None:
    try:
        while os.read(watch, EVENTS_BYTES):
            pass
    except BlockingIOError:
        return
