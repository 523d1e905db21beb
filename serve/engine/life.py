"""A file that the kernel keeps locked for as long as its API process lives, however that ends: by it the others of this
machine know whether they are alone with its engines, and that they need not wait for its lease.
"""

import contextlib
import fcntl
from pathlib import Path


class Life:
    """This process's file in `run/api`, locked until the process is gone."""

    def __init__(self, run_dir: Path, process_id: str) -> None:
        self._folder = run_dir / "api"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.process_id = process_id
        # It is there for the others once it is locked: without, they would take it for that of one that is gone.
        unseen = run_dir / f".{process_id}"
        self._own = unseen.open("w")
        fcntl.flock(self._own, fcntl.LOCK_EX)
        unseen.rename(self._folder / process_id)

    def ended(self) -> list[str]:
        """The processes of this machine and home that are gone, and were not forgotten yet."""
        return sorted(path.name for path in self._folder.iterdir() if path.name != self.process_id and _is_free(path))

    def is_shared(self) -> bool:
        """True while another process of this machine and home lives: it drives the same engines."""
        return any(path.name != self.process_id and not _is_free(path) for path in self._folder.iterdir())

    def forget(self, process_id: str) -> None:
        (self._folder / process_id).unlink(missing_ok=True)

    def end(self) -> None:
        self.forget(self.process_id)
        self._own.close()


def _is_free(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
