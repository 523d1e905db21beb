"""Import and export of red-team transcripts, as HH-RLHF publishes them: JSON lines, or one JSON array."""

import codecs
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from feedback.exporting import Report as Exported
from feedback.formats import SetAside, load, red_team
from feedback.formats.json_array import elements
from feedback.importing import MAX_LINE_BYTES, Opened, Report, each_line, import_each, records
from feedback.messages import turns
from feedback.store import Store, transcripts

PEEKED_BYTES = 4096


def import_transcripts(
    store: Store, path: Path, *, home: Path, on_progress: Callable[[int], None] = lambda _bytes: None
) -> Report:
    """Import a file, gzip or plain. Each transcript once, however often it is imported.

    Raises InvalidRequest when the file cannot be read.
    """

    def read(line: bytes) -> tuple[str, red_team.Attack]:
        return f"red-team:{hashlib.sha256(line).hexdigest()}", red_team.read(load(line))

    def item(_: int, digest: str, attack: red_team.Attack) -> tuple[str, red_team.Attack]:
        return digest, attack

    found = records(path, on_progress, _lines_or_elements)
    return import_each(store, path, home, found, read, item, transcripts.add)


def export_transcripts(store: Store, out: BinaryIO, *, system_messages: bool = True) -> Exported:
    """Write the imported transcripts, and those that votes with a success tell, one JSON object a line; without
    `system_messages` they lack what instructed the assistant. Raises RecordUnavailable, with a part of them written."""
    written, left_out = 0, Counter[str]()

    def write_all(session: Any) -> None:
        nonlocal written
        for attack in transcripts.everything(session):
            messages = attack.messages if system_messages else turns(attack.messages)
            try:
                out.write(red_team.dump(replace(attack, messages=messages)) + b"\n")
                written += 1
            except SetAside as error:
                left_out[error.message] += 1

    store.read_through(write_all)
    return Exported(written, dict(left_out))


def _lines_or_elements(opened: Opened) -> Iterator[bytes]:
    """The lines, or the elements of the one array that the file is."""
    if opened.peek(PEEKED_BYTES).removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"[":
        yield from elements(opened, MAX_LINE_BYTES)
    else:
        yield from (line.rstrip(b"\r\n") for line in each_line(opened))
