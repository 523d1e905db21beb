"""`tandem keys`: make, list, limit and revoke API keys, and see what each used, on the record itself."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.command.options import Home, Json
from feedback.errors import InvalidRequest

if TYPE_CHECKING:
    from feedback.schema import Key

app = typer.Typer(help="Make, list, limit and revoke API keys, and see what each used.", no_args_is_help=True)

KeyName = Annotated[str, typer.Argument(metavar="KEY", help="The key's id or prefix, as `tandem keys list` shows it.")]
SETTINGS = "settings"


@app.command("create")
def create(
    role: Annotated[
        str, typer.Option(metavar="chat|vote|operate", help="What the key may do; each includes the ones before.")
    ],
    name: Annotated[str, typer.Option(metavar="TEXT", help="Whom or what it is for.")] = "",
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="How long it is good: 30d, 12h, 45m, or until a date such as 2026-12-31; else until it is revoked.",
        ),
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(metavar="N", help="Chats in a minute; else `serve.requests_per_minute` holds.")
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(metavar="N", help="Tokens in a minute; else `serve.tokens_per_minute` holds.")
    ] = None,
    json: Json = False,
    home: Home = None,
) -> None:
    """Make a key and print its secret, this once: only a digest of it is kept."""
    from deploy.command.moments import ahead
    from deploy.command.output import print_json, say, when
    from deploy.command.record import open_record
    from feedback.store import keys, now

    limits = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}

    def ends(at: float) -> float | None:
        return None if expires is None else ahead(expires, at, "expires")

    # Before there is a record: what cannot be asked for makes none.
    keys.check_new(role, time.time(), ends(time.time()), limits)
    with open_record(home) as (store, _):
        at = store.read(now)
        key, secret = store.write(keys.create, role, name, expires_at=ends(at), **limits)
    if json:
        print_json(described(key, at) | {"secret": secret})
        return
    print(secret)
    until = "" if key.expires_at is None else f", good until {when(key.expires_at)}"
    say(f"This is key {key.prefix} with the role {key.role}{until}. Keep it now: it is not shown again.")


@app.command("list")
def list_keys(json: Json = False, home: Home = None) -> None:
    """List the keys, expired and revoked ones too, with their own limits."""
    from deploy.command.output import named, print_json, print_table, when
    from deploy.command.record import open_record
    from feedback.store import keys, now

    with open_record(home, must_exist=True) as (store, _):
        known, at = store.read(keys.list_all), store.read(now)
    if json:
        print_json([described(key, at) for key in known])
        return
    # The audit names keys by their ids.
    rows = [
        (
            key.prefix, key.role, named(key.name), keys.state(key, at), when(key.created_at),
            when(key.revoked_at or key.expires_at), key.requests_per_minute, key.tokens_per_minute, key.id,
        )
        for key in known
    ]  # fmt: skip
    print_table(("KEY", "ROLE", "NAME", "STATE", "CREATED", "ENDS", "REQUESTS/MIN", "TOKENS/MIN", "ID"), rows)


@app.command("usage")
def usage(
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help="Only of this key, by its id or prefix.", show_default=False)
    ] = None,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="From that day on: so long ago (30d), or a date such as 2026-03-01.")
    ] = "7d",
    json: Json = False,
    home: Home = None,
) -> None:
    """Show what each key used, by day (UTC): chats with their tokens, comparisons, votes."""
    from deploy.command.moments import ago
    from deploy.command.output import named, print_json, print_table
    from deploy.command.record import open_record
    from feedback.store import keys, now
    from feedback.store import usage as uses

    with open_record(home, must_exist=True) as (store, _):
        key_id = None if key is None else store.read(keys.known, key).id
        days = store.read(uses.since, ago(since, store.read(now), "since"), key_id)
    used = [(day.date.isoformat(), one) for day in days for one in day.used]
    if json:
        print_json([{"day": day, **uses.described(one)} for day, one in used])
        return
    rows = [
        (
            day, one.key.prefix, named(one.key.name),
            one.chats, one.prompt_tokens, one.reply_tokens, one.comparisons, one.votes,
        )
        for day, one in used
    ]  # fmt: skip
    print_table(("DAY", "KEY", "NAME", "CHATS", "PROMPT TOKENS", "REPLY TOKENS", "COMPARISONS", "VOTES"), rows)


@app.command("limit")
def limit(
    key: KeyName,
    requests_per_minute: Annotated[
        str | None, typer.Option(metavar="N|settings", help="Chats in a minute; `settings`: as all other keys.")
    ] = None,
    tokens_per_minute: Annotated[
        str | None, typer.Option(metavar="N|settings", help="Tokens in a minute; `settings`: as all other keys.")
    ] = None,
    json: Json = False,
    home: Home = None,
) -> None:
    """Change what a key may use in a minute, in place of what the settings say; within a second it holds."""
    from deploy.command.output import print_json, say
    from deploy.command.record import open_record
    from feedback.store import keys, now

    given = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
    limits = {name: number(value, name) for name, value in given.items() if value is not None}
    if not limits:
        raise InvalidRequest("say what to change: --requests-per-minute, --tokens-per-minute or both")
    with open_record(home, must_exist=True) as (store, _):
        changed, at = store.write(keys.limit, key, limits), store.read(now)
    if json:
        print_json(described(changed, at))
        return
    bounds = [f"{value} {name} a minute" for name, value in keys.own_limits(changed).items()]
    say(f"Key {changed.prefix} may use {' and '.join(bounds) or 'what the settings say'}.")


@app.command("revoke")
def revoke(
    key: KeyName,
    json: Json = False,
    home: Home = None,
) -> None:
    """Revoke a key: within a second no request with it is answered any more."""
    from deploy.command.output import print_json, say
    from deploy.command.record import open_record
    from feedback.store import keys, now

    with open_record(home, must_exist=True) as (store, _):
        revoked, at = store.write(keys.revoke, key), store.read(now)
    if json:
        print_json(described(revoked, at))
    else:
        say(f"Key {revoked.prefix} is revoked.")


def number(written: str, name: str) -> int | None:
    """None for `settings`. Raises InvalidRequest."""
    if written == SETTINGS:
        return None
    if not (written.isascii() and written.isdigit()) or len(written) > 12:
        raise InvalidRequest(f"{written!r} is neither a number nor `{SETTINGS}`", param=name)
    return int(written)


def described(key: "Key", at: float) -> dict[str, Any]:
    """A key without anything secret, as it is at a time of the record's clock."""
    from feedback.store import keys

    return {
        "id": key.id,
        "prefix": key.prefix,
        "role": key.role,
        "name": key.name,
        "state": keys.state(key, at),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "requests_per_minute": key.requests_per_minute,
        "tokens_per_minute": key.tokens_per_minute,
    }
