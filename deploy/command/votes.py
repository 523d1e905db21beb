"""`tandem votes`: import and export of preference pairs, on the record itself, whether or not Tandem runs; one vote."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from deploy.command.moments import ago
from deploy.command.options import ApiKey, Home, Json, Limit, Objective, Url, check_objective
from feedback.errors import InvalidRequest

app = typer.Typer(help="Import and export votes, and see what one of them changed.", no_args_is_help=True)

RED_TEAM = "red-team"
Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="hh|trl|openai|red-team",
        help="Format of the file: HH-RLHF's, TRL's, OpenAI's, or HH-RLHF's red-team transcripts.",
    ),
]

OfRater = Annotated[
    str | None,
    typer.Option(metavar="RATER", help="Only votes of this rater, by the id that `tandem raters list` shows."),
]
Preferred = Annotated[str | None, typer.Option(metavar="0|1|tie|both_bad", help="Only votes that say so.")]
OfVersion = Annotated[
    str | None, typer.Option(metavar="VERSION", help="Only votes on a pair of which this version wrote a reply.")
]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Only votes cast from then on: so long ago (30d), a date such as 2026-03-01, or a point in time: "
        "2026-03-01T08:00:00 or, not in local time, 2026-03-01T08:00:00+01:00.",
    ),
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Only votes cast before.")]
Text = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Only where this stands in the conversation, a reply or the vote.")
]
Disputed = Annotated[bool, typer.Option("--disputed", help="Only where another rater picked the other side.")]


@app.command("import")
def import_votes(
    file: Annotated[Path, typer.Argument(metavar="FILE|-", help="JSON lines, plain or gzip; - is stdin.")],
    format_name: Format,
    objective: Annotated[
        str | None,
        typer.Option(metavar="helpful|harmless", help="What the pairs were judged by; else the file's name must say."),
    ] = None,
    json: Json = False,
    home: Home = None,
) -> None:
    """Take in preference pairs: each becomes a comparison with a vote, once, however often it is imported.

    A record that cannot be taken is set aside: reported with its line, and kept in the home.
    """
    from deploy.command.output import follow_file, print_json, progress_bar, say_set_aside
    from deploy.command.record import open_record
    from feedback.importing import check_readable, import_file, objective_of
    from feedback.red_team import import_transcripts

    check_objective(objective)
    check_format(format_name)
    check_readable(file)
    if format_name != RED_TEAM:
        objective = objective or objective_of(file)
    with open_record(home) as (store, settings), progress_bar() as bar:
        on_progress = follow_file(bar, file)
        if format_name == RED_TEAM:
            report = import_transcripts(store, file, home=settings.home, on_progress=on_progress)
        else:
            report = import_file(
                store, file, format_name, home=settings.home, objective=objective, on_progress=on_progress
            )
    say_set_aside(file, report.set_aside)
    counts = {
        "read": report.read,
        "imported": report.imported,
        "known": report.known,
        "set_aside": report.set_aside.count,
    }
    if json:
        print_json(counts)
    else:
        print("{read} read, {imported} imported, {known} known already, {set_aside} set aside".format(**counts))


@app.command("export")
def export(
    format_name: Format,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="Where to write; - is stdout.")] = "-",
    objective: Objective = None,
    rater: OfRater = None,
    preferred: Preferred = None,
    version: OfVersion = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
    disputed: Disputed = False,
    without_system: Annotated[
        bool, typer.Option("--without-system", help="Leave system messages out, which HH-RLHF knows none of.")
    ] = False,
    json: Json = False,
    home: Home = None,
) -> None:
    """Write every vote that counts as a pair, one JSON object a line; or those that are asked for.

    What a format cannot say (a tie, for instance) is left out, and counted on stderr. With --json that
    account goes to stdout, so the pairs need a FILE. No line says under which objective its vote was: --objective
    writes those of one.
    """
    from functools import partial

    from deploy.command.output import follow_stages, print_json, progress_bar, say
    from deploy.command.record import open_record
    from feedback.exporting import export_votes
    from feedback.red_team import export_transcripts
    from feedback.schema import version_number
    from feedback.store.finding import Wanted

    check_objective(objective)
    check_preferred(preferred)
    check_format(format_name)
    wanted = Wanted(
        rater_id=rater,
        objective=objective,
        preferred=preferred,
        version=None if version is None else version_number(version),
        since=seconds(since, "since"),
        until=seconds(until, "until"),
        text=text or None,
        disputed=disputed,
    )
    if format_name == RED_TEAM and wanted != Wanted(objective=objective):
        raise InvalidRequest("red-team transcripts are conversations, not votes: they are written out all together")
    if json and file == "-":
        raise InvalidRequest("with --json name a FILE for the pairs; stdout is taken by the account of them")
    with (
        open_record(home, must_exist=True) as (store, _),
        opened_for_pairs(file) as out,
        progress_bar(shown=file != "-") as bar,
    ):
        if format_name == RED_TEAM:
            report = export_transcripts(store, out, system_messages=not without_system)
        else:
            on_progress = partial(follow_stages(bar), "votes")
            report = export_votes(
                store, out, format_name, wanted, system_messages=not without_system, on_progress=on_progress
            )
    if json:
        print_json({"written": report.written, "left_out": report.left_out})
        return
    say(f"{report.written} pairs written")
    for reason, votes in sorted(report.left_out.items()):
        say(f"{votes} left out: {reason}")


@app.command("list")
def list_votes(
    objective: Objective = None,
    rater: OfRater = None,
    preferred: Preferred = None,
    version: OfVersion = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
    disputed: Disputed = False,
    status: Annotated[
        str | None,
        typer.Option(metavar="accepted|counted|quarantined|retracted", help="Only votes in this state."),
    ] = None,
    limit: Limit = 20,
    json: Json = False,
    home: Home = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """List everybody's votes, the newest first, or those that are asked for; `tandem votes export` takes the same."""
    from itertools import islice

    from deploy.command.api import open_api
    from deploy.command.output import VOTE_COLUMNS, print_json, print_table, vote_cells

    check_objective(objective)
    check_preferred(preferred)
    asked = {
        "objective": objective,
        "rater_id": rater,
        "preferred": preferred,
        "version": version,
        "since": seconds(since, "since"),
        "until": seconds(until, "until"),
        "text": text or None,
        "disputed": disputed or None,
        "status": status,
    }
    filters = {name: value for name, value in asked.items() if value is not None}
    with open_api(home, url, key) as api:
        found = list(islice(api.pages("/v1/votes", whose="all", limit=min(limit, 100), **filters), limit))
    if json:
        print_json(found)
        return
    rows = [
        (*vote_cells(vote), vote["rater"], ", ".join(one["version"] for one in vote["versions"]) or None)
        for vote in found
    ]
    print_table((*VOTE_COLUMNS, "RATER", "IN"), rows)


@app.command("show")
def show(
    vote: Annotated[str, typer.Argument(metavar="VOTE", help="A vote's id, as `tandem votes list` lists it.")],
    json: Json = False,
    home: Home = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Show what a vote said, now and before, and what it changed: the iterations and versions that used it."""
    from deploy.command.api import open_api, route
    from deploy.command.output import print_json
    from deploy.command.policies import outline

    with open_api(home, url, key) as api:
        found = api.get(route("votes", vote))
    if json:
        print_json(found)
    else:
        print("\n".join(outline(found)))


def seconds(written: str | None, param: str) -> float | None:
    """Since the epoch, before which nobody voted. Raises InvalidRequest."""
    return None if written is None else max(0.0, ago(written, time.time(), param))


def check_preferred(preferred: str | None) -> None:
    """Raises InvalidRequest."""
    from feedback.schema import PREFERRED

    if preferred is not None and preferred not in PREFERRED:
        one_of = ", ".join(PREFERRED)
        raise InvalidRequest(f"{preferred!r} is not a preference; choose one of {one_of}", param="preferred")


def check_format(name: str) -> None:
    """Raises InvalidRequest."""
    formats = ("hh", "trl", "openai", RED_TEAM)
    if name not in formats:
        raise InvalidRequest(f"unknown format {name!r}; choose one of {', '.join(formats)}", param="format")


@contextmanager
def opened_for_pairs(file: str) -> Iterator[BinaryIO]:
    """Stdout for `-`; else a file that appears only when it is complete."""
    import sys

    if file == "-":
        sys.stdout.flush()
        yield sys.stdout.buffer
        return
    path = Path(file)
    # A device or a pipe is written to, never replaced.
    replaced = path.is_file() or not path.exists()
    written = path.with_name(f"{path.name}.unfinished") if replaced else path
    try:
        with written.open("wb") as out:
            yield out
        if replaced:
            written.replace(path)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}") from error
    finally:
        if replaced:
            written.unlink(missing_ok=True)
