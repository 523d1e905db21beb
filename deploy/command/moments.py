"""Points in time as people write them on the command line: so long from now, or a date."""

import re
from datetime import UTC, datetime

from feedback.errors import InvalidRequest

SECONDS = {"m": 60, "h": 3600, "d": 86_400}


def ahead(written: str, at: float, param: str) -> float:
    """`30d`, `12h`, `45m` after `at`, or a date, in seconds since the epoch. Raises InvalidRequest."""
    return _moment(written, at, 1, param)


def ago(written: str, at: float, param: str) -> float:
    """The same before `at`."""
    return _moment(written, at, -1, param)


def _moment(written: str, at: float, direction: int, param: str) -> float:
    span = re.fullmatch(r"([0-9]{1,6})([mhd])", written)
    try:
        if span:
            moment = at + direction * int(span[1]) * SECONDS[span[2]]
        else:
            moment = datetime.fromisoformat(written).timestamp()
        # In a year that can be shown.
        datetime.fromtimestamp(moment, UTC)
        return moment
    except (ValueError, OverflowError, OSError):
        raise InvalidRequest(
            f"{written!r} is no time; write 45m, 12h or 30d, or a date: 2026-03-01, 2026-03-01T08:00:00 (local time) or"
            " 2026-03-01T08:00:00+01:00",
            param=param,
        ) from None
