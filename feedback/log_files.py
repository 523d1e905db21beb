"""Log files that stay bounded: one that has grown too large is set aside as `NAME.log.1`, in place of the one before.

The processes that write hold their file open to append and know nothing of this, vLLM and Redis among them: so the file
is copied and then emptied, not renamed. What is written between the last look and the emptying, some microseconds, is
lost.
"""

import fcntl
import os
import shutil
from pathlib import Path

BLOCK_BYTES = 1 << 20


def bound(log: Path, limit_bytes: int) -> bool:
    """Set the log aside if it has more than `limit_bytes`. Returns whether it was. Raises OSError, and then nothing was
    lost.
    """
    if not log.exists() or log.stat().st_size <= limit_bytes:
        return False
    with log.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        unfinished = log.with_name(f"{log.name}.new")
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as aside:
            shutil.copyfileobj(file, aside, BLOCK_BYTES)
            aside.flush()
            unfinished.replace(log.with_name(f"{log.name}.1"))
            while rest := file.read(BLOCK_BYTES):
                aside.write(rest)
                aside.flush()
            file.truncate(0)
    return True
