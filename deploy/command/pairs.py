"""Two replies side by side in a terminal, and the vote by key press."""

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from feedback.messages import text_of

if TYPE_CHECKING:
    from rich.console import RenderableType

NARROW_COLUMNS = 72
SIDES = ("left", "right")
STRENGTHS = ("slightly", "somewhat", "clearly", "much")
END_OF_INPUT = "\x04"


@dataclass(frozen=True)
class Pair:
    """Two finished replies, left and right, of the comparison that the API recorded."""

    replies: tuple[str, str]
    comparison_id: str | None


@dataclass(frozen=True)
class Ballot:
    """A vote as it was pressed. A tie and two bad replies have no strength."""

    preferred: int | str
    strength: int | None = None

    def __str__(self) -> str:
        if isinstance(self.preferred, int) and self.strength is not None:
            return f"{SIDES[self.preferred]} is {STRENGTHS[self.strength - 1]} better"
        return str(self.preferred).replace("_", " ")


def show_pair(chunks: Iterable[dict[str, Any]]) -> Pair:
    """Show both replies as they are written, side by side where the terminal is wide enough."""
    from rich.console import Console
    from rich.live import Live

    console = Console()
    replies, comparison_id = ["", ""], None
    with Live(side_by_side(replies, console.width), console=console, refresh_per_second=12) as live:
        for chunk in chunks:
            comparison_id = chunk.get("comparison_id") or comparison_id
            for choice in chunk["choices"]:
                replies[choice["index"]] += choice["delta"].get("content") or ""
            live.update(side_by_side(replies, console.width))
    return Pair((replies[0], replies[1]), comparison_id)


def show_stored(messages: list[dict[str, Any]], replies: list[dict[str, Any]]) -> None:
    """Show a conversation and both replies to it, all there already."""
    from rich.console import Console
    from rich.text import Text

    from deploy.command.output import clean

    console = Console()
    for message in messages:
        console.print(Text(clean(f"\n{message['role']}: {_shown(message)}")))
    console.print(side_by_side([_shown(reply) or "(an empty reply)" for reply in replies], console.width))


def _shown(message: dict[str, Any]) -> str:
    """The text of a message, and below it the tools that it calls, a line each."""
    calls = message.get("tool_calls") or []
    return "\n".join(filter(None, [text_of(message), *map(_called, calls if isinstance(calls, list) else [calls])]))


def _called(call: Any) -> str:
    """What was imported may call in any form."""
    match call:
        case {"function": {"name": name, "arguments": str(given)}}:
            return f"{name}({given})"
    return json.dumps(call, ensure_ascii=False)


def side_by_side(replies: list[str], width: int) -> "RenderableType":
    """The two replies in columns of equal width, one above the other in a narrow terminal."""
    from rich.box import ROUNDED
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Column, Table
    from rich.text import Text

    from deploy.command.output import clean

    titles = [f"{number} {side}" for number, side in enumerate(SIDES, start=1)]
    texts = [Text(clean(reply)) for reply in replies]
    if width >= NARROW_COLUMNS:
        table = Table(*(Column(title, ratio=1) for title in titles), box=ROUNDED, expand=True)
        table.add_row(*texts)
        return table
    return Group(*(Panel(text, title=title, title_align="left") for title, text in zip(titles, texts, strict=True)))


def ask_for_vote() -> Ballot | None:
    """The person's vote; None when they skip it. Raises KeyboardInterrupt, and EOFError where the input ends."""
    pressed = press("better: 1 left, 2 right, t tie, b both bad, s skip ", "12tbs")
    if pressed == "s":
        return None
    if pressed in ("t", "b"):
        return Ballot({"t": "tie", "b": "both_bad"}[pressed])
    choices = ", ".join(f"{number} {word}" for number, word in enumerate(STRENGTHS, start=1))
    return Ballot(int(pressed) - 1, int(press(f"by how much: {choices} ", "1234")))


def press(question: str, keys: str) -> str:
    """Ask, and wait for one of `keys`, without Enter. Raises EOFError for Ctrl-D and when the terminal is gone."""
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        # This also forgets what was typed before the question stood there: it cannot be meant as an answer.
        tty.setcbreak(terminal, termios.TCSAFLUSH)
        print(question, end="", file=sys.stderr, flush=True)
        while True:
            pressed = os.read(terminal, 1).decode(errors="replace").lower() or END_OF_INPUT
            if pressed in keys or pressed == END_OF_INPUT:
                break
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
    if pressed == END_OF_INPUT:
        raise EOFError
    print(pressed, file=sys.stderr)
    return pressed
