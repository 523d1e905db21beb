"""Ports for the processes that tests start."""

import socket
from collections.abc import Iterator
from itertools import cycle

# Below those that Linux gives to whoever asks for any: nobody gets one of them by chance before it is listened on.
FIRST, BLOCK, BLOCKS = 20_000, 100, 120


def free_port() -> int:
    for port in _own:
        if (probe := _bound(port)) is not None:
            probe.close()
            return port
    raise AssertionError("no block of ports is free")


def _block() -> Iterator[int]:
    """Over and over the ports of a block whose first one this process holds while it lives: another one that runs tests
    goes by another block."""
    for first in range(FIRST, FIRST + BLOCKS * BLOCK, BLOCK):
        if (held := _bound(first)) is not None:
            with held:
                yield from cycle(range(first + 1, first + BLOCK))


_own = _block()


def _bound(port: int) -> socket.socket | None:
    """None where somebody else has it."""
    made = socket.socket()
    try:
        made.bind(("127.0.0.1", port))
    except OSError:
        made.close()
        return None
    return made
