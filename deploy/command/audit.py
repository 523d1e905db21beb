"""`tandem audit`: who decided what, when and why; and whether that was changed since. On the record itself."""

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.command.options import MOST, Home, Json, Limit
from feedback.errors import InvalidRequest

if TYPE_CHECKING:
    from feedback.schema import AuditEntry

app = typer.Typer(help="Look at what was decided, and check that nothing of it was changed.", no_args_is_help=True)


@app.command("list")
def list_entries(
    about: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only about this: a version, a rater, a key, an iteration.")
    ] = None,
    limit: Limit = MOST,
    json: Json = False,
    home: Home = None,
) -> None:
    """List promotions, rollbacks, shares, keys, erasures and iterations: who, when and why; the oldest first."""
    from deploy.command.output import print_json, print_table, when
    from deploy.command.record import open_record
    from feedback.store import audit

    with open_record(home, must_exist=True) as (store, _):
        newest, _ = store.read(audit.list_page, limit=limit, after=None, order="desc", subject=about)
    entries = newest[::-1]
    if json:
        print_json([described(entry) for entry in entries])
        return
    rows = [
        (entry.seq, when(entry.created_at), entry.actor, entry.action, entry.subject or None, said(entry))
        for entry in entries
    ]
    print_table(("ENTRY", "WHEN", "WHO", "WHAT", "ABOUT", "WHY"), rows)


@app.command("verify")
def verify(
    kept: Annotated[
        str | None, typer.Option(metavar="DIGEST", help="One that was printed before: an entry has to have it still.")
    ] = None,
    json: Json = False,
    home: Home = None,
) -> None:
    """Check the chain of digests. Exit code 1 when an entry was changed, removed or put in.

    Keep the digest that is printed somewhere else: given with --kept, a chain whose end was removed, or that was made
    anew as a whole, shows too.
    """
    from deploy.command.output import print_json, say
    from deploy.command.record import open_record
    from feedback.audit import DIGEST, START
    from feedback.store import audit

    # An empty one, of a variable that was not set, must not pass for none.
    if kept is not None and not re.fullmatch(DIGEST, kept):
        raise InvalidRequest(f"{kept!r} is no digest: it has 64 digits, from 0 to f", param="kept")
    with open_record(home, must_exist=True) as (store, _):
        checked = store.read(audit.verify, START if kept is None else kept)
    if json:
        print_json(checked.as_json())
    elif checked.broken_at is None:
        print(f"{checked.entries} entries, intact; the last digest is {checked.head}")
    else:
        say(f"broken at entry {checked.broken_at}: {checked.problem}; {checked.entries} entries before it hold")
    if checked.broken_at is not None:
        raise typer.Exit(1)


def said(entry: "AuditEntry") -> str | None:
    """The reason, with the mark of a decision against the gate or one that failed."""
    is_so = {"forced": entry.data.get("force"), "failed": entry.data.get("outcome") == "failed"}
    marks = [mark for mark, holds in is_so.items() if holds]
    return ": ".join(part for part in (", ".join(marks), entry.reason) if part) or None


def described(entry: "AuditEntry") -> dict[str, Any]:
    return {
        "id": entry.seq,
        "created": entry.created_at,
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "reason": entry.reason,
        "data": entry.data,
        "previous": entry.previous,
        "digest": entry.digest,
    }
