"""Identifiers: a prefix that says what it is, then 128 bits that sort by the time they were made.

The layout of the 128 bits is that of UUID version 7 (RFC 9562): Unix milliseconds, then random bits. Rows made together
lie together in an index, and a list ordered by id is ordered by time; within one process strictly so.
"""

import os
import threading
import time

RANDOM_BITS = 80

_lock = threading.Lock()
_last = [0]


def new_id(prefix: str) -> str:
    """A fresh id such as `cmp_0190c8f2...`: prefix, underscore, 32 hexadecimal digits."""
    fresh = (time.time_ns() // 1_000_000) << RANDOM_BITS | int.from_bytes(os.urandom(10), "big")
    with _lock:
        # Two in one millisecond, or a clock that went back: still later than the one before, and still hard to guess
        # from it, since the step is random too.
        if fresh <= _last[0]:
            fresh = _last[0] + 1 + int.from_bytes(os.urandom(8), "big")
        _last[0] = fresh
    return f"{prefix}_{fresh:032x}"


def earliest(prefix: str, at: float) -> str:
    """The least id of this kind that can have been made at that time, in seconds since the epoch, or later."""
    return f"{prefix}_{round(1000 * at) << RANDOM_BITS:032x}"


def new_id_beside(other: str) -> str:
    """A fresh id of the same kind that looks as if it was made in the same moment as `other`."""
    prefix, _, digits = other.rpartition("_")
    made = int(digits, 16) >> RANDOM_BITS
    return f"{prefix}_{made << RANDOM_BITS | int.from_bytes(os.urandom(10), 'big'):032x}"
