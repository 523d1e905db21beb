"""Says what is being done while a stack starts: a line that lives on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Announcer:
    """Progress goes to stderr; only the last line, where to open it, to stdout."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Around something that takes a while. A step that fails says nothing: its error will."""
        started = time.monotonic()
        if self.console.is_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description} ..."), TimeElapsedColumn())
            with Progress(*columns, console=self.console, transient=True) as progress:
                progress.add_task(escape(what), total=None)
                yield
            self.console.print(f"[green]✓[/] {escape(what)} [dim]{time.monotonic() - started:.1f} s[/]")
        else:
            self.console.print(f"{what} ...", markup=False)
            yield

    def warn(self, what: str) -> None:
        self.console.print(f"[yellow]![/] {escape(what)}")

    def ready(self, what: str) -> None:
        print(what, file=sys.stdout, flush=True)  # noqa: T201
