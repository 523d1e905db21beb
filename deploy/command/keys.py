"""`tandem keys`: make, list and revoke API keys, on the record itself."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.command.options import Home, Json

if TYPE_CHECKING:
    from feedback.schema import Key

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)


@app.command("create")
def create(
    role: Annotated[
        str, typer.Option(metavar="chat|vote|operate", help="What the key may do; each includes the ones before.")
    ],
    name: Annotated[str, typer.Option(metavar="TEXT", help="Whom or what it is for.")] = "",
    json: Json = False,
    home: Home = None,
) -> None:
    """Make a key and print its secret, this once: only a digest of it is kept."""
    from deploy.command.output import print_json, say
    from deploy.command.record import open_record
    from feedback.store import keys

    with open_record(home) as (store, _):
        key, secret = store.write(keys.create, role, name)
    if json:
        print_json(described(key) | {"secret": secret})
        return
    print(secret)
    say(f"This is key {key.prefix} with the role {key.role}. Keep it now: it is not shown again.")


@app.command("list")
def list_keys(json: Json = False, home: Home = None) -> None:
    """List the keys, revoked ones too."""
    from deploy.command.output import print_json, print_table, when
    from deploy.command.record import open_record
    from feedback.store import keys

    with open_record(home, must_exist=True) as (store, _):
        known = store.read(keys.list_all)
    if json:
        print_json([described(key) for key in known])
        return
    # The audit names keys by their ids.
    rows = [
        (key.prefix, key.role, key.name or None, when(key.created_at), when(key.revoked_at), key.id) for key in known
    ]
    print_table(("KEY", "ROLE", "NAME", "CREATED", "REVOKED", "ID"), rows)


@app.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key's id or prefix, as `tandem keys list` shows it.")],
    json: Json = False,
    home: Home = None,
) -> None:
    """Revoke a key: within a second no request with it is answered any more."""
    from deploy.command.output import print_json, say
    from deploy.command.record import open_record
    from feedback.store import keys

    with open_record(home, must_exist=True) as (store, _):
        revoked = store.write(keys.revoke, key)
    if json:
        print_json(described(revoked))
    else:
        say(f"Key {revoked.prefix} is revoked.")


def described(key: "Key") -> dict[str, Any]:
    """A key without anything secret."""
    return {
        "id": key.id,
        "prefix": key.prefix,
        "role": key.role,
        "name": key.name,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
