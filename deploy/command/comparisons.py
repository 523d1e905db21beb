"""`tandem comparisons`: pairs for a file of prompts, and votes on open pairs by key press. Both by the public API."""

import hashlib
import json as json_text
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.command.line_by_line import Record, Records, post_patiently, put_each
from deploy.command.options import ApiKey, Concurrency, Home, Json, Url, check_objective
from feedback.errors import InvalidRequest

if TYPE_CHECKING:
    from concurrent.futures import Future

    from deploy.command.api import Api
    from feedback.formats import Message

app = typer.Typer(help="Make pairs for prompts of your own, and vote on pairs.", no_args_is_help=True)

PATIENCE_S = 600.0
"""How long a pair is asked for again while the server is busy, or the key has used up its share."""
TEXT_SUFFIXES = (".txt", ".txt.gz")


@app.command("make")
def make(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|-",
            help="JSON lines, or one prompt a line where the name ends in .txt; plain or gzip; - is stdin.",
        ),
    ],
    pairs: Annotated[int, typer.Option(min=1, max=100, metavar="N", help="How many pairs for each prompt.")] = 1,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, metavar="T", help="Of both replies; else the server's own.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Longest reply; else the server's own.")
    ] = None,
    concurrency: Concurrency = 4,
    json: Json = False,
    home: Home = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Ask for two replies to each prompt of a file, for people to vote on.

    A line is a JSON text, an object with `prompt` or `messages`, or a preference pair of any format that `tandem votes
    import` takes, whose prompt is used. However often the command is run, a prompt has no more than --pairs of a key:
    what was interrupted goes on, and with a larger number newer versions write more. People see the pairs of the key
    that they vote with, operators all. What cannot be taken is set aside: reported with its line, and kept in the home.
    """
    from deploy.command.api import home_of, open_api
    from deploy.command.output import follow_file, print_json, progress_bar, say, say_set_aside
    from feedback.formats.prompts import parse_json, parse_text
    from feedback.importing import Aside

    sampling = {"temperature": temperature, "max_tokens": max_tokens}
    options = {name: value for name, value in sampling.items() if value is not None}
    with open_api(home, url, key) as api, progress_bar() as bar, Aside(home_of(home), file) as aside:
        api.get("/v1/models")  # Says at once when there is nothing to talk to.
        parse = parse_text if file.name.endswith(TEXT_SUFFIXES) else parse_json
        prompts = Records(file, parse, aside, follow_file(bar, file))
        try:
            outcomes = make_all(api, prompts, requests(prompts, pairs, options), concurrency)
        except KeyboardInterrupt:
            say("interrupted; the same command goes on where it was")
            raise typer.Exit(130) from None
    say_set_aside(file, aside)
    counts = {
        "read": prompts.read,
        "made": outcomes["made"],
        "known": outcomes["known"],
        "set_aside": aside.count,
    }
    if json:
        print_json(counts)
    else:
        print("{read} read, {made} pairs made, {known} known already, {set_aside} set aside".format(**counts))


@app.command("vote")
def vote(
    objective: Annotated[str, typer.Option(metavar="helpful|harmless", help="What to judge by.")] = "helpful",
    rater: Annotated[
        str, typer.Option(metavar="NAME", help="Who votes, where several people share a key.", show_default=False)
    ] = "",
    home: Home = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Vote by key press on the pairs that want votes, the most informative first. Ctrl-D ends."""
    from deploy.command.api import open_api
    from deploy.command.output import say
    from deploy.command.pairs import ask_for_vote, show_stored

    check_objective(objective)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidRequest("pairs are shown at a terminal; a program votes by the API (docs/api.md)")
    named = {"rater": rater} if rater else {}
    cast, skipped = 0, 0
    with open_api(home, url, key) as api:
        try:
            for pair in api.pages("/v1/comparisons", status="open", objective=objective, **named):
                show_stored(pair["messages"], [choice["message"] for choice in pair["choices"]])
                ballot = ask_for_vote()
                if ballot is None:
                    skipped += 1
                    continue
                body = {"objective": objective, "preferred": ballot.preferred, "strength": ballot.strength, **named}
                api.call("PUT", f"/v1/comparisons/{pair['id']}/vote", json=body)
                say(f"vote cast: {ballot}")
                cast += 1
            if skipped:
                say(f"no others want a vote of yours; run this again for the {skipped} that you skipped")
            else:
                say("no more pairs want a vote of yours")
        except (EOFError, KeyboardInterrupt):
            pass
    say(f"\n{cast} {'vote' if cast == 1 else 'votes'} cast")


@dataclass(frozen=True)
class Request:
    """A pair to be made for a prompt. Its id is the same whenever the command is run."""

    prompt: Record[list["Message"]]
    body: dict[str, Any]
    id: str


def requests(prompts: Records[list["Message"]], pairs: int, options: dict[str, Any]) -> Iterator[Request]:
    """So many pairs for each prompt."""
    seen = Counter[str]()
    for prompt in prompts:
        body = {"model": "tandem", "messages": prompt.said, "n": 2, **options}
        digest = hashlib.sha256(json_text.dumps(body, sort_keys=True).encode()).hexdigest()[:32]
        for _ in range(pairs):
            # A prompt that stands twice in a file is two prompts.
            seen[digest] += 1
            yield Request(prompt, body, f"made_{digest}_{seen[digest]}")


def make_all(
    api: "Api", prompts: Records[list["Message"]], wanted: Iterator[Request], concurrency: int
) -> Counter[str]:
    """How many pairs were `made` and `known`. Raises what the first that cannot be made raises."""
    from feedback.formats import SetAside

    outcomes = Counter[str]()

    def take(request: Request, outcome: "Future[str]") -> None:
        try:
            outcomes[outcome.result()] += 1
        except SetAside as error:
            prompts.leave(request.prompt, error.message)

    put_each(wanted, partial(make_one, api), take, concurrency)
    return outcomes


def make_one(api: "Api", request: Request, stopping: threading.Event) -> str:
    """Raises SetAside for what the server does not take, and TandemError for what any other line would meet too."""
    from feedback.formats import SetAside

    recorded = api.get("/v1/samples", request_id=request.id)["data"]
    if any(sample["comparison_id"] is not None for sample in recorded):
        return "known"
    # A retry that the server has answered already, or still answers, makes no second pair.
    headers = {"x-request-id": request.id, "idempotency-key": request.id}
    answer = post_patiently(
        api, "/v1/chat/completions", patience_s=PATIENCE_S, stopping=stopping, json=request.body, headers=headers
    )
    if "comparison_id" not in answer:
        raise SetAside("the server made no pair of it, as where it refuses strange prompts")
    return "made"
