"""Import of preference pairs: each becomes a comparison with one vote, once, however often its file is imported.

What cannot be taken is set aside: reported with its line, and kept in a file in the home.
"""

import codecs
import gzip
import hashlib
import os
import random
import re
import tempfile
import zlib
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from operator import attrgetter
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import orjson
from sqlalchemy.orm import Session

from feedback.errors import InvalidRequest
from feedback.formats import Preference, SetAside, named
from feedback.objectives import OBJECTIVES
from feedback.store import Store, imports

BATCH = 1000
BATCH_BYTES = MAX_LINE_BYTES = 16 * 1024 * 1024
"""What is compressed to nearly nothing is no reason to fill the memory; and JSON that is read takes many times its
bytes."""
FIRST_SET_ASIDE = 20
"""So many are said one by one."""
Opened = BufferedReader | gzip.GzipFile
STDIN = Path("-")
GZIP = b"\x1f\x8b"
Said = TypeVar("Said")
Item = TypeVar("Item")
TRANCHES = ("rejection-sampled", "online", "base")


@dataclass(frozen=True)
class Line:
    """A record that was set aside, and why."""

    number: int
    reason: str
    record: str


class Aside:
    """The records of a file that were set aside: each goes into a file in the home as it comes, and the first few alone
    stay in memory. A context manager; `kept` is that file when it has ended."""

    def __init__(self, home: Path, path: Path) -> None:
        self.count = 0
        self.first: list[Line] = []
        self.kept: Path | None = None
        self._folder = home / "imports"
        # With what is put behind it, it must be a name of a file too: 255 bytes.
        self._name = "stdin" if path == STDIN else os.fsdecode(os.fsencode(path.name)[:200])
        self._digest = hashlib.sha256()
        self._file: IO[bytes] | None = None

    def add(self, line: Line) -> None:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.NamedTemporaryFile(dir=self._folder, prefix=".unfinished-", delete=False)  # noqa: SIM115
        said = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        self._digest.update(said)
        self._file.write(said)
        self.count += 1
        # They come nearly in their order where several are worked on at the same time.
        insort(self.first, line, key=attrgetter("number"))
        del self.first[FIRST_SET_ASIDE:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            # Many files are called train.jsonl: what one import set aside must not take the place of another's.
            self.kept = self._folder / f"{self._name}.{self._digest.hexdigest()[:8]}.set-aside.jsonl"
            Path(self._file.name).replace(self.kept)


@dataclass(frozen=True)
class Report:
    """What became of each record of a file."""

    read: int
    imported: int
    known: int
    set_aside: Aside


def import_file(
    store: Store,
    path: Path,
    format_name: str,
    *,
    home: Path,
    objective: str | None = None,
    on_progress: Callable[[int], None] = lambda _bytes: None,
) -> Report:
    """Import a JSON-lines file, gzip or plain. `on_progress` is told the bytes of the file read so far.

    The objective is taken from the file's name (as HH-RLHF's tranches are named) when it is not given.
    Raises InvalidRequest when the file cannot be read or the objective is not known.
    """
    file_format = named(format_name)
    check_readable(path)
    objective = objective or objective_of(path)
    tranche = tranche_of(path)

    def read(line: bytes) -> tuple[str, Preference]:
        preference = file_format.parse(line)
        return _digest(format_name, objective, preference), preference

    def pair(number: int, digest: str, preference: Preference) -> imports.Pair:
        return _pair(preference, digest, format_name, number, objective, tranche)

    return import_each(store, path, home, lines(path, on_progress), read, pair, imports.add)


def import_each(
    store: Store,
    path: Path,
    home: Path,
    numbered: Iterable[tuple[int, bytes]],
    read: Callable[[bytes], tuple[str, Said]],
    item: Callable[[int, str, Said], Item],
    add: Callable[[Session, list[Item]], dict[str, int]],
) -> Report:
    """`read` gives a record's digest and what it says, or raises SetAside; `add` writes a batch of the `item`s made of
    that, and says how many are `imported` and `known`."""
    total, counts, seen = 0, Counter[str](), Counter[str]()
    batch: list[Item] = []
    batch_bytes = 0
    with Aside(home, path) as aside:
        for number, line in numbered:
            total += 1
            try:
                digest, said = read(line)
            except SetAside as error:
                aside.add(Line(number, error.message, line.decode(errors="replace").rstrip("\r\n")))
                continue
            # What stands twice in a file is two records; the second import of the file knows both.
            seen[digest] += 1
            batch.append(item(number, f"{digest}#{seen[digest]}", said))
            batch_bytes += len(line)
            if len(batch) == BATCH or batch_bytes >= BATCH_BYTES:
                counts.update(store.write(add, batch))
                batch, batch_bytes = [], 0
        if batch:
            counts.update(store.write(add, batch))
    return Report(total, counts["imported"], counts["known"], aside)


def check_readable(path: Path) -> None:
    """Raises InvalidRequest. A pipe is not opened: whoever writes to it would be told that nobody reads any more."""
    try:
        if path != STDIN and not path.is_fifo():
            path.open("rb").close()
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {_reason(error)}", param="file") from error


def objective_of(path: Path) -> str:
    """`harmless-base.jsonl.gz` -> `harmless`; the folder says it where the file's name does not.

    Raises InvalidRequest when neither does, or one says both.
    """
    absolute = path.absolute()
    # The folder that a command is run in says nothing of stdin.
    for name in () if path == STDIN else (absolute.name, *(folder.name for folder in absolute.parents)):
        found = [objective for objective in OBJECTIVES if objective in name]
        if len(found) == 1:
            return found[0]
        if found:
            break
    raise InvalidRequest(f"{path.name} does not say under which objective; pass --objective", param="objective")


def tranche_of(path: Path) -> str:
    """`helpful-online.jsonl` and, as HH-RLHF is published, `helpful-online/train.jsonl.gz` -> `online`."""
    absolute = path.absolute()
    named = path != STDIN and any(objective in absolute.parent.name for objective in OBJECTIVES)
    folder = absolute.parent.name if named else ""
    for name in (absolute.name, folder):
        for tranche in TRANCHES:
            if re.search(rf"(?<![a-z]){tranche}(?![a-z])", name):
                return tranche
    return "import"


def lines(path: Path, on_progress: Callable[[int], None] = lambda _bytes: None) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, gzip or plain, that are not blank, with their numbers; `-` is stdin. Raises
    InvalidRequest."""
    return records(path, on_progress, each_line)


def records(
    path: Path, on_progress: Callable[[int], None], cut: Callable[[Opened], Iterator[bytes]]
) -> Iterator[tuple[int, bytes]]:
    """What `cut` makes of a file, gzip or plain, without what is blank, with the numbers. Raises InvalidRequest, for an
    OSError of `cut` too."""
    number = 0
    try:
        with open(0, "rb", closefd=False) if path == STDIN else path.open("rb") as raw:
            opened: Opened = raw
            # A pipe may have a single byte by now.
            beginning = raw.peek(2)[:2]
            if beginning and GZIP.startswith(beginning):
                opened = gzip.GzipFile(fileobj=raw)
            for number, read in enumerate(cut(opened), start=1):
                record = read.removeprefix(codecs.BOM_UTF8) if number == 1 else read
                if record.strip():
                    yield number, record
                if raw.seekable():
                    on_progress(raw.tell())
    except (OSError, EOFError, zlib.error) as error:
        where = f" beyond line {number}" if number else ""
        taken = "; what stands before that was taken" if number else ""
        raise InvalidRequest(f"{path} cannot be read{where}: {_reason(error)}{taken}", param="file") from error


def each_line(opened: Opened) -> Iterator[bytes]:
    """Raises OSError for one that is too long."""
    while line := opened.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise OSError(f"the next one is longer than {MAX_LINE_BYTES} bytes")
        yield line


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _digest(format_name: str, objective: str, preference: Preference) -> str:
    content = [
        format_name,
        objective,
        preference.messages,
        preference.chosen,
        preference.rejected,
        preference.origin,
    ]
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _pair(
    preference: Preference, digest: str, format_name: str, number: int, objective: str, tranche: str
) -> imports.Pair:
    # The side is drawn, as for any comparison, so that a rater who sees the pair cannot tell by it.
    chosen_side = random.Random(digest).randrange(2)
    replies = (preference.chosen, preference.rejected)
    origin: dict[str, Any] = {
        "format": format_name,
        "line": number,
        **({"rest": preference.origin} if preference.origin else {}),
    }
    return imports.Pair(
        messages=preference.messages,
        replies=replies if chosen_side == 0 else (replies[1], replies[0]),
        preferred=str(chosen_side),
        objective=objective,
        tranche=tranche,
        origin=origin,
        origin_digest=digest,
    )
