"""Import and export of red-team transcripts, as HH-RLHF publishes them: JSON lines, or one JSON array."""

import codecs
import gzip
import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from feedback.errors import InvalidRequest
from feedback.exporting import Report as Exported
from feedback.formats import SetAside, load, red_team
from feedback.importing import BATCH, Line, Report, keep_set_aside
from feedback.store import Store, transcripts

MAX_BYTES = 512 * 1024 * 1024
"""Of what a file holds, uncompressed: it is read as a whole, since it may be one array."""


def import_transcripts(
    store: Store, path: Path, *, home: Path, on_progress: Callable[[int], None] = lambda _bytes: None
) -> Report:
    """Import a file, gzip or plain. Each transcript once, however often it is imported.

    Raises InvalidRequest when the file cannot be read.
    """
    read, counts, set_aside, seen = 0, Counter[str](), [], Counter[str]()
    batch: list[tuple[str, transcripts.Attacked]] = []
    for number, line in _records(path):
        read += 1
        try:
            attack = red_team.read(load(line))
        except SetAside as error:
            set_aside.append(Line(number, error.message, line.decode(errors="replace")))
            continue
        digest = hashlib.sha256(line).hexdigest()
        seen[digest] += 1
        attacked = transcripts.Attacked(attack.messages, attack.success, attack.task, attack.rest)
        batch.append((f"red-team:{digest}#{seen[digest]}", attacked))
        if len(batch) == BATCH:
            counts.update(store.write(transcripts.add, batch))
            batch = []
    counts.update(store.write(transcripts.add, batch) if batch else {})
    on_progress(path.stat().st_size)
    kept = keep_set_aside(home, path, set_aside)
    return Report(read, counts["imported"], counts["known"], tuple(set_aside), kept)


def export_transcripts(store: Store, out: BinaryIO) -> Exported:
    """Write the imported transcripts, and those that votes with a success tell, one JSON object a line."""
    written, left_out = 0, Counter[str]()

    def write_all(session: Any) -> None:
        nonlocal written
        for attacked in transcripts.everything(session):
            attack = red_team.Attack(attacked.messages, attacked.success, attacked.task, attacked.rest)
            try:
                out.write(red_team.dump(attack) + b"\n")
                written += 1
            except SetAside as error:
                left_out[error.message] += 1

    store.read(write_all)
    return Exported(written, dict(left_out))


def _records(path: Path) -> Iterator[tuple[int, bytes]]:
    """The records with their numbers, as bytes: lines, or the elements of the one array that the file is."""
    try:
        with path.open("rb") as raw:
            is_gzip = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if is_gzip else path.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise OSError(f"it holds more than {MAX_BYTES} bytes; split it")
        content = content.removeprefix(codecs.BOM_UTF8)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}", param="file") from error
    if content.lstrip()[:1] == b"[":
        try:
            elements = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"{path} is not JSON: {error}", param="file") from error
        yield from ((number, orjson.dumps(element)) for number, element in enumerate(elements, start=1))
        return
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            yield number, line
