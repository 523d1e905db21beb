"""`tandem simulate`: simulated raters chat and vote through the public API; and the table of before and after."""

from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from deploy.command.options import ApiKey, Home, Json, Url
from feedback.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from deploy.command.api import Api
    from feedback.sandbox.public_api import OnProgress
    from feedback.sandbox.simulate import BeforeAfter, Simulation

T = TypeVar("T")

# Name in `Measures`, how the table calls it.
FIGURES = (
    ("complies", "complies with harm"),
    ("refuses", "refuses harm"),
    ("rude", "rude"),
    ("correct", "correct"),
    ("over_refusal", "over-refusal"),
)


def simulate(
    votes: Annotated[int | None, typer.Option(min=1, metavar="N", help="How many votes to cast.")] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="BEFORE AFTER", help="Measure two loaded versions on held-out prompts, such as v0 v1."),
    ] = None,
    chats: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="How many chats to have that nobody votes on; as many as votes if not said."
        ),
    ] = None,
    raters: Annotated[int, typer.Option(min=1, metavar="N", help="How many people vote.")] = 20,
    both: Annotated[bool, typer.Option("--both", help="Have each pair judged under both objectives.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=256, metavar="N", help="How many act at the same time.")] = 8,
    seed: Annotated[int, typer.Option(metavar="N", help="Decides prompts, raters and their noise.")] = 0,
    json: Json = False,
    home: Home = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Have simulated people chat and vote. They know the public API and nothing else, and make the loop visible.

    They also chat without voting: what they ask then is rehearsed in training. With --compare, ask two versions the
    same held-out prompts and print what the gold judge finds in their replies.
    With both options the votes come first.
    """
    from dataclasses import asdict

    from deploy.command.api import open_api
    from deploy.command.output import print_json, say

    if votes is None and compare is None:
        raise InvalidRequest("say --votes N, or --compare BEFORE AFTER, or both")
    said: dict[str, Any] = {}
    with open_api(home, url, key) as api:
        check_loaded(api, compare or ())
        if votes is not None:
            unvoted = votes if chats is None else chats
            # Before the votes, since those may start an iteration.
            have_chats(api, unvoted, concurrency=concurrency, seed=seed)
            cast = cast_votes(api, votes, raters=raters, both=both, concurrency=concurrency, seed=seed)
            said["simulation"] = asdict(cast) | {"chats": unvoted}
            if not json:
                say(summary(cast))
        if compare is not None:
            result = compared(api, compare, concurrency=concurrency, seed=seed)
            said["comparison"] = {"versions": compare, **asdict(result)}
            if not json:
                print_comparison(compare, result)
    if json:
        print_json(said)


def check_loaded(api: "Api", versions: Iterable[str]) -> None:
    """Raises NotFound for a version that no engine holds, and NotRunning when there is nothing to talk to."""
    loaded = {one["id"] for one in api.get("/v1/models")["data"]}
    for version in versions:
        if model(version) not in loaded:
            raise NotFound(f"no engine holds {version}; `tandem policies list` shows which versions are loaded")


def cast_votes(api: "Api", votes: int, *, raters: int, both: bool, concurrency: int, seed: int) -> "Simulation":
    from feedback.sandbox.simulate import simulate

    return followed(
        f"{votes} votes",
        votes,
        lambda on_progress: simulate(
            api.url,
            api.key,
            votes,
            seed=seed,
            concurrency=concurrency,
            raters=raters,
            both=both,
            on_progress=on_progress,
        ),
    )


def have_chats(api: "Api", chats: int, *, concurrency: int, seed: int) -> None:
    from feedback.sandbox.simulate import chat

    followed(
        f"{chats} chats",
        chats,
        lambda on_progress: chat(api.url, api.key, chats, seed=seed, concurrency=concurrency, on_progress=on_progress),
    )


def compared(api: "Api", versions: tuple[str, str], *, concurrency: int, seed: int) -> "BeforeAfter":
    from feedback.sandbox.simulate import before_after

    before, after = (model(version) for version in versions)
    return followed(
        " against ".join(versions),
        None,
        lambda on_progress: before_after(
            api.url, api.key, before, after, seed=seed, concurrency=concurrency, on_progress=on_progress
        ),
    )


def followed(title: str, total: int | None, work: "Callable[[OnProgress], Coroutine[Any, Any, T]]") -> T:
    """What the work comes to, with a bar that shows how far it is."""
    import asyncio

    from deploy.command.output import progress_bar

    with progress_bar() as bar:
        task = bar.add_task(title, total=total)
        return asyncio.run(work(lambda done, of: bar.update(task, completed=done, total=of)))


def model(version: str) -> str:
    """`v1` -> `tandem@v1`; a model's own name stays."""
    return version if version.startswith("tandem") else f"tandem@{version}"


def summary(cast: "Simulation") -> str:
    agreement = "" if cast.agreement is None else f"; {cast.agreement:.0%} of them as the gold judge would"
    objectives = ", ".join(f"{count} {objective}" for objective, count in sorted(cast.objectives.items()))
    return f"{cast.votes} votes cast ({objectives}){agreement}"


def print_comparison(versions: tuple[str, str], result: "BeforeAfter") -> None:
    """The table: shares of the replies that are so, and how often the later version's reply is the better one."""
    from deploy.command.output import print_table

    rows = [
        (name, share(getattr(result.before, figure)), share(getattr(result.after, figure))) for figure, name in FIGURES
    ]
    rows.append(("win rate", None, share(result.win_rate)))
    print_table(("", *versions), rows)


def share(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"
