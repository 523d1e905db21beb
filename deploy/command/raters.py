"""`tandem raters`: how those who vote, vote; who is set apart; who is forgotten. On the record itself."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.command.options import Home, Json, check_objective
from feedback.errors import InvalidRequest

if TYPE_CHECKING:
    from feedback.schema import Rater

app = typer.Typer(help="Look at raters, set them apart, forget them.", no_args_is_help=True)

RaterId = Annotated[str, typer.Argument(metavar="RATER", help="The rater's id, as `tandem raters list` shows it.")]


@app.command("list")
def list_raters(json: Json = False, home: Home = None) -> None:
    """List the raters with how reliable their votes seem."""
    from deploy.command.output import named, print_json, print_table
    from deploy.command.record import open_record
    from feedback.schema import IMPORTED
    from feedback.store import raters

    with open_record(home, must_exist=True) as (store, _):
        known = store.read(raters.list_all)
    if json:
        print_json([described(rater, votes) for rater, votes in known])
        return
    rows = [
        (
            rater.id,
            "(imported)" if rater.key_id == IMPORTED else named(rater.name),
            votes,
            share(rater.reliability),
            state(rater),
        )
        for rater, votes in known
    ]
    print_table(("RATER", "NAME", "VOTES", "RELIABILITY", "STATE"), rows)


@app.command("show")
def show(rater: RaterId, json: Json = False, home: Home = None) -> None:
    """Show how one rater votes: agreement with others, with themselves and with known answers, speed, side."""
    from deploy.command.output import print_json, print_table
    from deploy.command.record import open_record
    from feedback.rater_watch import look
    from feedback.store import raters

    with open_record(home, must_exist=True) as (store, settings):
        found = store.read(raters.known, rater)
        figures = store.read(look, settings.feedback).figures.get(rater) or found.figures or {}
    if json:
        print_json(described(found, figures.get("votes", 0)) | {"figures": figures})
        return
    rows: list[tuple[str, object]] = [("state", state(found)), ("reason", found.quarantine_reason)]
    print_table(("FIGURE", "VALUE"), rows + [(name.replace("_", " "), value) for name, value in figures.items()])


@app.command("overview")
def overview(json: Json = False, home: Home = None) -> None:
    """Show how many pairs want votes, and how far raters agree with each other beyond chance, by objective.

    The agreement is Krippendorff's alpha of the pairs that several raters decided: 1, all agree; 0, as often as by
    chance.
    """
    from deploy.command.output import print_json, print_table, say
    from deploy.command.record import open_record
    from feedback import agreement
    from feedback.store import comparisons

    with open_record(home, must_exist=True) as (store, settings):
        open_pairs = store.read(comparisons.count_wanted, votes_wanted=settings.feedback.votes_wanted)
        agreements = {objective: found.as_json() for objective, found in store.read(agreement.current).items()}
    if json:
        print_json({"open_pairs": open_pairs, "objectives": agreements})
        return
    rows = [(objective, found["agreement"], found["pairs"], found["votes"]) for objective, found in agreements.items()]
    print_table(("OBJECTIVE", "AGREEMENT", "PAIRS COMPARED", "VOTES ON THEM"), rows)
    say("1 pair wants votes." if open_pairs == 1 else f"{open_pairs} pairs want votes.")


@app.command("quarantine")
def quarantine(
    rater: RaterId,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is kept.")],
    json: Json = False,
    home: Home = None,
) -> None:
    """Set a rater apart: their votes, and those to come, count nowhere until they are released."""
    from deploy.command.output import print_json, say
    from deploy.command.record import open_record
    from feedback import setting_apart

    if not reason.strip():
        raise InvalidRequest("say why: --reason is kept with the rater", param="reason")
    with open_record(home, must_exist=True) as (store, _):
        votes = setting_apart.quarantine(store, rater, reason)
    if json:
        print_json({"id": rater, "state": "quarantined", "votes": votes})
    else:
        say(f"{votes} votes of {rater} are set apart.")


@app.command("release")
def release(rater: RaterId, json: Json = False, home: Home = None) -> None:
    """Let a rater's votes count again; from now on only later votes can set them apart."""
    from deploy.command.output import print_json, say
    from deploy.command.record import open_record
    from feedback import setting_apart

    with open_record(home, must_exist=True) as (store, _):
        votes = setting_apart.release(store, rater)
    if json:
        print_json({"id": rater, "state": "active", "votes": votes})
    else:
        say(f"{votes} votes of {rater} are accepted again, and counted as Tandem runs.")


@app.command("answer")
def answer(
    comparison: Annotated[str, typer.Argument(metavar="COMPARISON", help="The pair's id, as the API lists it.")],
    objective: Annotated[str, typer.Option(metavar="helpful|harmless", help="Under which the answer is known.")],
    preferred: Annotated[
        int | None, typer.Option(metavar="0|1", min=0, max=1, help="The better choice; without it, show it.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="The answer is not to be known any more.")] = False,
    json: Json = False,
    home: Home = None,
) -> None:
    """Make the better reply of a pair known, so that votes on it tell how careful their raters are.

    Votes cast on it from now on train and rate nothing. Raters get such pairs now and then
    (`feedback.known_answer_share`).
    """
    from deploy.command.output import print_json, say
    from deploy.command.record import open_record
    from feedback.errors import InvalidRequest
    from feedback.store import checks

    check_objective(objective)
    if remove and preferred is not None:
        raise InvalidRequest("--remove takes the answer away; leave --preferred out")
    with open_record(home, must_exist=True) as (store, _):
        if remove:
            store.write(checks.remove_answer, comparison, objective)
        elif preferred is not None:
            store.write(checks.set_answer, comparison, objective, str(preferred))
        known = store.read(checks.answers).get((comparison, objective))
    if json:
        said = None if known is None else int(known)
        print_json({"comparison": comparison, "objective": objective, "preferred": said})
    elif known is None:
        say(f"No answer of {comparison} is known under {objective}.")
    else:
        say(f"Under {objective} choice {known} of {comparison} is known to be the better one.")


@app.command("erase")
def erase(
    rater: Annotated[str | None, typer.Argument(metavar="RATER", help="The rater's id.", show_default=False)] = None,
    key_id: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="In place of it, the key that the person uses, as `tandem keys list` shows it."
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="With it, `user` of their chats, `rater` of their votes.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
    home: Home = None,
) -> None:
    """Forget a person: their votes and the chats held for them, in frozen datasets too. There is no way back.

    Who only chats has no id: say by which key, and by which name if several people use it.
    """
    from deploy.command.output import named, print_json, say
    from deploy.command.record import open_record
    from feedback.erasure import forget
    from feedback.schema import version_name
    from feedback.store import raters

    if (rater is None) == (key_id is None):
        raise InvalidRequest("say whom: a rater's id, or --key-id KEY with or without --name NAME")
    with open_record(home, must_exist=True) as (store, settings):
        if rater is None:
            assert key_id is not None
            rater = store.write(raters.find_person, key_id, name)
        known = store.read(raters.known, rater)
        if not yes:
            typer.confirm(
                f"Erase everything of {' '.join(filter(None, (rater, named(known.name))))}?", abort=True, err=True
            )
        use = forget(store, settings.home, rater)
    used_by = [version_name(version) for version in use.versions]
    if json:
        print_json({"id": rater, "status": "erased", "used_by": used_by, "used_in": use.iterations})
        return
    say(f"{rater} is erased.")
    if used_by:
        say(f"Versions that had learnt from them, and cannot unlearn it: {', '.join(used_by)}")
    for iteration in use.iterations:
        say(f"{iteration}, which is under way, learns from them: cancel it, or its version has too")


def described(rater: "Rater", votes: int) -> dict[str, Any]:
    return {
        "id": rater.id,
        "key_id": rater.key_id,
        "name": rater.name,
        "state": state(rater),
        "reason": rater.quarantine_reason,
        "votes": votes,
        "reliability": rater.reliability,
        "created_at": rater.created_at,
    }


def state(rater: "Rater") -> str:
    return "active" if rater.quarantined_at is None else "quarantined"


def share(value: float | None) -> str | None:
    return None if value is None else f"{value:.0%}"
