"""A temporary folder of its own for a process and its children, which goes with them, also when they are killed.

vLLM leaves a file there for each engine, torchrun and Celery a folder for each process that was killed, and nobody
removes them: on a machine that is on for months they gather.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.util import Finalize
from pathlib import Path

# Short: the names of sockets in it come on top, and the kernel takes 107 bytes in all.
PREFIX = "tandem-tmp."
# Stands in each of ours. Another folder of such a name is somebody's own, unless there is nothing in it.
MARK = "in-use"


def take() -> Path:
    """Have all that this process and its children put into the temporary folder from now on go into a new one.

    It is removed at this process's end; what those that were killed have left is removed now.
    """
    shared = Path(tempfile.gettempdir())
    # What PyTorch has compiled is worth keeping.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(shared / f"torchinductor_{os.getuid()}"))
    _sweep(shared)
    folder = _locked()
    # Of this process alone, and after the folder within it that multiprocessing removes itself (-100), or fails to.
    Finalize(None, shutil.rmtree, (folder,), {"ignore_errors": True}, exitpriority=-200)
    use(folder)
    return folder


def held() -> Path:
    """Where what is temporary goes by now: what was taken, or another one where whoever tidies up has removed it."""
    folder = Path(tempfile.gettempdir())
    if folder.is_dir():
        return folder
    tempfile.tempdir = str(folder.parent)
    return take()


@contextmanager
def for_a_child() -> Iterator[dict[str, str]]:
    """The environment of a process whose own temporary folder goes when it has ended, also when it was killed."""
    # Those that it left behind may still write there; it goes with ours then.
    with tempfile.TemporaryDirectory(dir=held(), ignore_cleanup_errors=True) as own:
        yield os.environ | {"TMPDIR": own}


def use(folder: Path) -> None:
    """Have all that is temporary go there, in this process and in those that it starts."""
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def _locked() -> Path:
    """A new folder, held for as long as this process lives, or one that it forked."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)
            (folder / MARK).touch()
            return folder
        except FileNotFoundError:
            continue  # another process took it for one that was left


def _sweep(shared: Path) -> None:
    for folder in shared.glob(f"{PREFIX}*"):
        try:
            if folder.lstat().st_uid == os.getuid():
                _remove_unless_held(folder)
        except OSError:
            continue  # it is in use or somebody's own, or another process was quicker


def _remove_unless_held(folder: Path) -> None:
    """Raises OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (folder / MARK).exists():
            shutil.rmtree(folder, ignore_errors=True)
        else:
            folder.rmdir()
    finally:
        os.close(opened)
