"""A file that whoever changes what serves touches, so that the other API processes of a home look at the record at once
instead of at their next round.
"""

from pathlib import Path


class Bell:
    """`heard` is true once after each `ring` of any process."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / "changed"
        self._last = self._rung_at()

    def ring(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Written anew: a file's own time goes by steps of some milliseconds.
        aside = self._path.with_suffix(".new")
        aside.touch(0o600)
        aside.replace(self._path)

    def heard(self) -> bool:
        rung_at = self._rung_at()
        rung, self._last = rung_at != self._last, rung_at
        return rung

    def _rung_at(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns
