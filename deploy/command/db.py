"""`tandem db`: the record's database, brought up to date, or moved from SQLite to Postgres or back."""

from typing import Annotated

import typer

from deploy.command.options import Home, Json

app = typer.Typer(help="The record's database.", no_args_is_help=True)


@app.command("upgrade")
def upgrade(home: Home = None) -> None:
    """Bring the tables up to date, before anything of a new release starts. `tandem up` does so by itself."""
    from deploy.command.output import say
    from deploy.command.record import open_record

    with open_record(home, must_exist=True):
        say("the record is up to date")


@app.command("copy")
def copy(
    to: Annotated[
        str, typer.Option("--to", metavar="URL", help="An empty database: postgresql+psycopg://... or sqlite:///FILE.")
    ],
    json: Json = False,
    home: Home = None,
) -> None:
    """Copy the whole record into another, empty database. Stop Tandem first, on all machines, then set `database_url`
    to it.
    """
    from sqlalchemy.exc import DatabaseError

    from deploy.command.output import follow_stages, print_json, progress_bar, say
    from deploy.command.record import open_record
    from deploy.running import is_in_use
    from feedback.addresses import check_database
    from feedback.copying import copy as copy_record
    from feedback.errors import Conflict, InvalidRequest, RecordUnavailable
    from feedback.store import Store

    try:
        check_database(to)
    except ValueError as error:
        raise InvalidRequest(f"--to: {error}", param="to") from None
    rows: dict[str, int] = {}
    with open_record(home, must_exist=True) as (store, settings):
        if is_in_use(settings.home):
            raise Conflict(
                f"Tandem runs in {settings.home}: votes cast now would be missing; end it first, on all machines"
            )
        target = Store(to)
        try:
            with progress_bar() as bar:
                show = follow_stages(bar)

                def tell(table: str, done: int, of: int | None) -> None:
                    rows[table] = done
                    if of:
                        show(table, done, of)

                copied = copy_record(store, target, tell)
        except DatabaseError as error:
            raise RecordUnavailable(f"the record cannot be copied: {error.orig}") from error
        finally:
            target.close()
    if json:
        print_json({"rows": copied, "tables": rows})
        return
    for table, count in rows.items():
        if count:
            say(f"{table}: {count}")
    say(f"{copied} rows copied. Set TANDEM_DATABASE_URL, or database_url in tandem.toml, to use the copy.")
