"""What the doctor says of one thing that it looked at."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    verdict: Literal["ok", "note", "wrong"]
    what: str
    found: str
    advice: str | None = None


WRITABLE = "have it belong to whom Tandem runs as, on a disk that can be written to"
"""What to do about a file that this user cannot write."""
OWN = "run this as whom Tandem runs as, or name another --home"
"""What to do about a file that this user cannot read."""
