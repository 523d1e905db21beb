"""The elements of a file that is one JSON array, one after the other: the file is never held as a whole."""

import re
from collections.abc import Iterator
from typing import Protocol

import orjson

CHUNK_BYTES = 1024 * 1024
BETWEEN_STRINGS, IN_A_STRING = re.compile(rb'["\[\]{},]'), re.compile(rb'["\\]')


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def elements(opened: Readable, most_bytes: int) -> Iterator[bytes]:
    """Each element, written again without spaces. Raises OSError when what comes next is no element, or is longer than
    `most_bytes`."""
    for number, element in enumerate(_cut(opened, most_bytes)):
        if number == 0 and not element.strip():
            # `[]`, or else there is a second one.
            continue
        try:
            yield orjson.dumps(orjson.loads(element))
        except orjson.JSONDecodeError as error:
            raise OSError(f"it is not JSON: {error}") from error


def _cut(opened: Readable, most_bytes: int) -> Iterator[bytes]:
    """What stands between the commas of the outermost array. What each of it says is not looked at."""
    held, start, at, depth, in_string = b"", 0, 0, 0, False
    while chunk := opened.read(CHUNK_BYTES):
        # From the beginning of an element on; up to `at` it was looked through.
        held, at = held[start:] + chunk, at - start
        start = 0
        while mark := (IN_A_STRING if in_string else BETWEEN_STRINGS).search(held, at):
            sign, at = mark.group(), mark.end()
            if sign == b'"':
                in_string = not in_string
            elif sign == b"\\":
                at += 1
            elif sign in b"[{":
                depth += 1
                start = at if depth == 1 else start
            else:
                depth -= sign in b"]}"
                if depth == 0 and sign != b"]":
                    raise OSError("it is not JSON: its array ends with a brace")
                if depth < 1 or (depth == 1 and sign == b","):
                    yield held[start : mark.start()]
                    start = at
                    # Behind its array nothing is one more.
                    depth = depth or -1
        at = max(at, len(held))
        if len(held) - start > most_bytes:
            raise OSError(f"the next element is longer than {most_bytes} bytes")
    if depth > 0 or held[start:].strip():
        raise OSError("it is not JSON: it is cut off, or goes on behind its array")
