"""`tandem score`: what a preference model makes of the replies in a file, by the public API."""

import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.command.line_by_line import Record, Records, post_patiently, put_each
from deploy.command.options import ApiKey, Concurrency, Home, Json, Url

if TYPE_CHECKING:
    from concurrent.futures import Future

    from deploy.command.api import Api
    from feedback.formats.replies import Replies

PATIENCE_S = 60.0
"""How long a scorer that is being started again is waited for."""
CONFIDENCE = 0.95
MOST_SHOWN = 20
EXCERPT = 40


def score(
    file: Annotated[Path, typer.Argument(metavar="FILE|-", help="JSON lines, plain or gzip; - is stdin.")],
    version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Whose preference model; by default that of what serves.")
    ] = None,
    concurrency: Concurrency = 4,
    json: Json = False,
    home: Home = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Say what the preference model makes of the replies in a file, and whether it agrees with who labelled pairs.

    A line is an object with `prompt` or `messages` and `replies`, a list of texts, or a preference pair of any format
    that `tandem votes import` takes. For each comes a line of JSON, in their order: its number, what `POST /v1/scores`
    answers, of a pair the chance that people prefer the chosen reply and whether the model agrees, score by score, and
    the record itself. At a terminal tables stand in their place, unless --json is given. What cannot be taken is set
    aside: reported with its line, and kept in the home.
    """
    from deploy.command.api import home_of, open_api
    from deploy.command.output import follow_file, progress_bar, say, say_set_aside
    from feedback.formats import replies
    from feedback.importing import Aside

    at_terminal = sys.stdout.isatty()
    as_lines = json or not at_terminal
    found = Found()

    def take(record: Record["Replies"], answer: dict[str, Any]) -> None:
        found.add(record, answer)
        if as_lines:
            # One write a line: whenever this ends, it has written whole ones.
            sys.stdout.buffer.write(line_of(record, answer))
            sys.stdout.buffer.flush()

    bar_is_shown = not (at_terminal and json)
    with open_api(home, url, key) as api, progress_bar(shown=bar_is_shown) as bar, Aside(home_of(home), file) as aside:
        judge = version_of(api, version)
        records = Records(file, replies.parse, aside, follow_file(bar, file))
        try:
            score_all(api, judge, records, take, concurrency)
        except KeyboardInterrupt:
            say(f"interrupted; {found.lines} lines are scored")
            raise typer.Exit(130) from None
    say_set_aside(file, aside)
    if not as_lines:
        found.print()
    say(f"{records.read} read, {found.lines} scored, {aside.count} set aside")


def version_of(api: "Api", version: str | None) -> str | None:
    """The one that was named, or else what serves by now, so that no promotion has a file judged by two models."""
    from feedback.schema import version_number

    if version is None:
        return next((one["version"] for one in api.pages("/v1/policies") if one["state"] == "serving"), None)
    version_number(version)
    return version


def score_all(
    api: "Api",
    version: str | None,
    records: Records["Replies"],
    take: Callable[[Record["Replies"], dict[str, Any]], None],
    concurrency: int,
) -> None:
    """Raises what the first line that cannot be scored raises, if any other would meet it too."""
    from feedback.formats import SetAside

    def take_or_leave(record: Record["Replies"], answer: "Future[dict[str, Any]]") -> None:
        try:
            take(record, answer.result())
        except SetAside as error:
            records.leave(record, error.message)

    put_each(records, partial(score_one, api, version), take_or_leave, concurrency)


def score_one(api: "Api", version: str | None, record: Record["Replies"], stopping: threading.Event) -> dict[str, Any]:
    """Raises SetAside for what the server does not take."""
    said = record.said
    body = {"version": version, "messages": said.messages, "replies": said.texts, "ended": said.ended}
    answer: dict[str, Any] = post_patiently(api, "/v1/scores", patience_s=PATIENCE_S, stopping=stopping, json=body)
    return answer


def line_of(record: Record["Replies"], answer: dict[str, Any]) -> bytes:
    """A line of JSON, which holds the record as it stood in the file."""
    import orjson

    judgement = {}
    if record.said.is_pair:
        _, rejected = answer["replies"]
        chances = {name: 1 - chance for name, chance in rejected["preferred_to_first"].items()}
        judgement = {"chosen_preferred": chances, "agrees": agreement(answer)}
    whole = {"line": record.line, **answer, **judgement, "record": orjson.Fragment(record.text.strip())}
    return orjson.dumps(whole, option=orjson.OPT_APPEND_NEWLINE)


def agreement(answer: dict[str, Any]) -> dict[str, bool | None]:
    """Whether the chosen reply of a pair is liked better, score by score; None where neither is."""
    chosen, rejected = (figures(reply) for reply in answer["replies"])
    return {name: None if chosen[name] == rejected[name] else chosen[name] > rejected[name] for name in chosen}


def figures(reply: dict[str, Any]) -> dict[str, float]:
    """The scores of a reply, and its reward."""
    return {**reply["scores"], "reward": reply["reward"]}


class Found:
    """What is shown of a file at a terminal: its first replies, and how all of them did."""

    def __init__(self) -> None:
        self.lines = self.pairs = self.replies = 0
        self._first: list[tuple[int, str, dict[str, Any]]] = []
        self._sums, self._agreed = Counter[str](), Counter[str]()

    def add(self, record: Record["Replies"], answer: dict[str, Any]) -> None:
        """A line that was scored."""
        self.lines += 1
        for text, reply in zip(record.said.texts, answer["replies"], strict=True):
            self.replies += 1
            self._sums.update(figures(reply))
            if self.lines <= MOST_SHOWN:
                self._first.append((record.line, text, reply))
        if record.said.is_pair:
            self.pairs += 1
            self._agreed.update(
                {name: 0.5 if agrees is None else float(agrees) for name, agrees in agreement(answer).items()}
            )

    def print(self) -> None:
        from deploy.command.output import print_table

        rows = [
            (line, *(f"{value:+.2f}" for value in figures(reply).values()), reply["tokens"], excerpt(text))
            for line, text, reply in self._first
        ]
        print_table(("LINE", *(name.upper() for name in self._sums), "TOKENS", "REPLY"), rows)
        print()
        print_table(("SCORE", "MEAN", "PAIRS", "AGREES", "INTERVAL"), [self._row(name) for name in self._sums])

    def _row(self, name: str) -> tuple[object, ...]:
        from feedback.live_votes import wilson

        mean = f"{self._sums[name] / self.replies:+.3f}"
        if not self.pairs:
            return name, mean, None, None, None
        share = self._agreed[name] / self.pairs
        low, high = wilson(share, self.pairs, CONFIDENCE)
        return name, mean, self.pairs, f"{share:.3f}", f"{low:.3f} to {high:.3f}"


def excerpt(text: str) -> str:
    """Its beginning, on one line."""
    said = " ".join(text.split())
    return said if len(said) <= EXCERPT else f"{said[:EXCERPT]}..."
