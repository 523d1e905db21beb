"""How commands speak: data on stdout (a table for people, JSON for programs), everything else on stderr."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.progress import Progress, TaskID

    from feedback.importing import Aside

# Wide enough that no cell is cut when the output goes into a file or a pipe.
UNBOUNDED_WIDTH = 1000


def print_json(data: Any) -> None:
    takes_all = sys.stdout.encoding.lower().startswith("utf")
    said = json.dumps(data, ensure_ascii=not takes_all, indent=2 if sys.stdout.isatty() else None)
    # JSON escapes the control characters below the blank, and not those above the tilde, which steer a terminal too.
    print(re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", said))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns without borders, so that `cut` and `awk` can read them too."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else UNBOUNDED_WIDTH)
    cleaned = [[clean(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in zip(headings, *cleaned, strict=True):
        # Words stay whole, as the ids that other commands want: a line that is too long the terminal breaks.
        longest = max(cell_len(word) for cell in column for word in cell.split() or [""])
        table.add_column(column[0], min_width=min(longest, console.width), overflow="fold")
    for row in cleaned:
        table.add_row(*map(Text, row))
    # Rich fills each line with blanks up to the width of the table.
    with console.capture() as captured:
        console.print(table, crop=False)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def say(message: str) -> None:
    """A word to the person, out of the way of the data."""
    print(clean(message), file=sys.stderr, flush=True)


def say_set_aside(file: "Path", aside: "Aside") -> None:
    """Which lines of a file could not be taken, and where they are kept."""
    for line in aside.first:
        say(f"{file}:{line.number}: set aside: {line.reason}")
    if aside.count > len(aside.first):
        say(f"... and {aside.count - len(aside.first)} more")
    if aside.kept is not None:
        say(f"What was set aside is kept in {aside.kept}")


def talk() -> "Console":
    """A console on stderr, for progress."""
    from rich.console import Console

    return Console(stderr=True)


def progress_bar(*, shown: bool = True) -> "Progress":
    """A bar on stderr; nothing at all where stderr is not a terminal, or it is not to be `shown`."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = talk()
    return Progress(*columns, console=console, disable=not (shown and console.is_terminal))


def follow_file(bar: "Progress", file: "Path") -> Callable[[int], None]:
    """A row of a bar for a file; what is returned is told how many of its bytes have been read."""
    row = bar.add_task(file.name, total=file.stat().st_size if file.is_file() else None)
    return lambda read_bytes: bar.update(row, completed=read_bytes)


def follow_stages(bar: "Progress") -> Callable[[str, int, int | None], None]:
    """A row of a bar for each stage of some work; what is returned is told which, how much of it is done, and of how
    much, where that is known."""
    rows: dict[str, TaskID] = {}

    def show(stage: str, done: int, of: int | None) -> None:
        if stage not in rows:
            rows[stage] = bar.add_task(stage, total=None)
        bar.update(rows[stage], completed=done, total=of)

    return show


def clean(value: object) -> str:
    """Text that cannot steer the terminal: a reply or a name may hold escape sequences. None is a dash."""
    from unicodedata import category

    if value is None:
        return "-"
    unsafe = {char for char in str(value) if category(char) in ("Cc", "Cs")} - {"\n", "\t"}
    return str(value).translate({ord(char): "\N{REPLACEMENT CHARACTER}" for char in unsafe})


def named(name: str | None) -> str | None:
    """A name, in which nothing is hidden that would have it look like another. None where there is none."""
    from unicodedata import category

    seen = (f"\\u{{{ord(char):x}}}" if category(char) in ("Cc", "Cf") else char for char in name or "")
    return "".join(seen) or None


def when(timestamp: float | None) -> str | None:
    """Seconds since the epoch as a local time to the minute."""
    from datetime import datetime

    if timestamp is None:
        return None
    return datetime.fromtimestamp(timestamp).astimezone().strftime("%Y-%m-%d %H:%M")


VOTE_COLUMNS = ("VOTE", "CAST", "OBJECTIVE", "PREFERRED", "STRENGTH", "STATUS")


def vote_cells(vote: Mapping[str, Any]) -> tuple[Any, ...]:
    """What stands in `VOTE_COLUMNS` of a vote."""
    told = (vote[name] for name in ("objective", "preferred", "strength", "status"))
    return (vote["id"], when(vote["created"]), *told)
