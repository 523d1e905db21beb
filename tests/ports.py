"""Ports for the processes that tests start."""

import os
import socket
from itertools import cycle

# Below those that Linux gives to whoever asks for any: nobody gets one of them by chance before it is listened on.
FIRST, BLOCK, BLOCKS = 20_000, 100, 120
# Of this process: another one that runs tests goes by others.
_own = cycle(range(FIRST + os.getpid() % BLOCKS * BLOCK, FIRST + (os.getpid() % BLOCKS + 1) * BLOCK))


def free_port() -> int:
    for port in _own:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("a cycle does not end")
