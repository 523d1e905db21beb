"""Identifiers: a prefix that says what it is, then 128 bits that sort by the time they were made.

The layout of the 128 bits is UUID version 7 (RFC 9562): 48 bits of Unix milliseconds, then random bits. Rows made
together lie together in an index, and a list ordered by id is ordered by time.
"""

import os
import time


def new_id(prefix: str) -> str:
    """A fresh id such as `cmp_0190c8f2...` (prefix, underscore, 32 hexadecimal digits)."""
    milliseconds = time.time_ns() // 1_000_000
    random_bits = int.from_bytes(os.urandom(10), "big")
    return f"{prefix}_{milliseconds:012x}{random_bits:020x}"
