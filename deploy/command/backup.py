"""`tandem backup` and `tandem restore`: a home in one file, and back."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.command.options import Home, Json

if TYPE_CHECKING:
    from deploy.backup import Contents


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup; it must not be there yet.")],
    json: Json = False,
    home: Home = None,
) -> None:
    """Write record, policies, datasets and evidence into one file. Tandem may go on running.

    No key is in it, only digests of keys; but it holds what people wrote, so keep it as you keep the home. Weights and
    judges that are damaged are left out, and it ends with an error that names their versions.
    """
    from deploy.backup import backup as write_backup
    from deploy.command.output import follow_stages, print_json, progress_bar, say
    from feedback.errors import PolicyInvalid
    from feedback.settings import load_settings

    with undone_when_ended(), progress_bar() as bar:
        contents = write_backup(load_settings(home=home), file, follow_stages(bar))
    if json:
        print_json(described(file, contents))
    else:
        versions = "1 version" if len(contents.versions) == 1 else f"{len(contents.versions)} versions"
        say(f"{len(contents.files)} files, with the weights of {versions}, in {file}")
    damaged = {"weights": contents.damaged, "judges": contents.damaged_judges}
    left_out = [f"the {what} of {', '.join(those)}" for what, those in damaged.items() if those]
    if left_out:
        raise PolicyInvalid(
            f"the backup is whole but for {' and '.join(left_out)}, which are not what was published: put them back "
            "from an earlier backup"
        )


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `tandem backup` wrote.")],
    json: Json = False,
    home: Home = None,
) -> None:
    """Make a new home from a backup, every file checked against its digest. What is there already is refused."""
    from sqlalchemy.exc import DatabaseError

    from deploy.command.output import follow_stages, print_json, progress_bar, say
    from deploy.restoring import names_another_record
    from deploy.restoring import restore as read_backup
    from feedback.errors import RecordUnavailable
    from feedback.settings import load_settings

    settings = load_settings(home=home)
    try:
        with undone_when_ended(), progress_bar() as bar:
            contents = read_backup(settings, file, follow_stages(bar))
    except DatabaseError as error:
        raise RecordUnavailable(f"the restored record cannot be read: {error.orig}") from error
    if json:
        print_json(described(file, contents) | {"home": str(settings.home)})
    else:
        say(f"{len(contents.files)} files are in {settings.home}; `tandem up` makes a new operator's key there")
    if names_another_record(settings):
        toml = settings.home / "tandem.toml"
        say(f"Correct database_url in {toml} before `tandem up`: it names another record than this one.")


@contextmanager
def undone_when_ended() -> Iterator[None]:
    """Have who is asked to end, or whose terminal goes, undo what was begun, as Ctrl-C does."""
    # With `nohup` it stays when the terminal goes.
    before = {
        number: handler
        for number in (signal.SIGTERM, signal.SIGHUP)
        if (handler := signal.getsignal(number)) != signal.SIG_IGN
    }

    def end(asked: int, _frame: object) -> None:
        # Once: what is undone is not to be cut short.
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        sys.exit(128 + asked)

    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def described(file: Path, contents: "Contents") -> dict[str, Any]:
    return {
        "file": str(file),
        "created_at": contents.created_at,
        "files": len(contents.files),
        "versions": contents.versions,
        "without_weights": contents.without_weights,
        "damaged": contents.damaged,
        "damaged_judges": contents.damaged_judges,
    }
