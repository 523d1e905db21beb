"""The `tandem` command: its groups, and the one place where an error becomes a line and an exit code.

A group's module imports what is heavy inside the command that needs it, so that `tandem --help` answers at once.
"""

import errno
import io
import os
import sys

import typer

from deploy.command import (
    audit,
    backup,
    chat,
    comparisons,
    db,
    doctor,
    evaluate,
    iterations,
    keys,
    learn,
    policies,
    prune,
    raters,
    ratings,
    report,
    samples,
    score,
    simulate,
    stack,
    votes,
)
from deploy.command.options import Home
from feedback.errors import InvalidRequest, TandemError

# What a machine refuses, whatever the command was about to do: closed, read-only, full, or another kind of file.
REFUSALS = frozenset(
    {
        errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOTDIR, errno.EISDIR,
        errno.EIO, errno.ENAMETOOLONG,
    }
)  # fmt: skip

# Plain help and one-line errors: readable in a terminal, in a log and in docs/commands.md alike.
app = typer.Typer(
    name="tandem",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback()
def tandem(home: Home = None) -> None:
    """An assistant on your own machine that learns from its users' votes while it serves them."""


app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)
app.command()(doctor.doctor)
app.command()(chat.chat)
app.command()(simulate.simulate)
app.command()(learn.learn)
app.command()(evaluate.evaluate)
app.command()(score.score)
app.command()(ratings.ratings)
app.command()(report.report)
app.command()(backup.backup)
app.command()(backup.restore)
app.command()(prune.prune)
app.add_typer(iterations.app, name="iterations")
app.add_typer(policies.app, name="policies")
app.add_typer(comparisons.app, name="comparisons")
app.add_typer(votes.app, name="votes")
app.add_typer(samples.app, name="samples")
app.add_typer(raters.app, name="raters")
app.add_typer(keys.app, name="keys")
app.add_typer(audit.app, name="audit")
app.add_typer(db.app, name="db")


def main() -> None:
    """The entry point: runs the command line and ends the process with its exit code."""
    # What it writes is people's chats and votes, or made from them: for whoever runs it alone.
    os.umask(0o077)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a terminal of another encoding lacks is written by its number, as stderr does.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run())


def run(arguments: list[str] | None = None) -> int:
    """Run a command line, by default this process's. An error that was raised on purpose is one line on stderr."""
    try:
        app(arguments, prog_name="tandem")
    except SystemExit as ended:
        return _flushed(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
    except TandemError as error:
        print(f"tandem: {' '.join(error.message.split())}", file=sys.stderr)
        return _flushed(error.exit_code)
    except UnicodeEncodeError as error:
        # What a command line says in bytes that are no UTF-8 has become halves of pairs.
        if not "\ud800" <= error.object[error.start] <= "\udfff":
            raise
        print("tandem: what was typed is not UTF-8", file=sys.stderr)
        return _flushed(InvalidRequest.exit_code)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        about = f"{error.filename}: " if error.filename else ""
        print(f"tandem: {about}{error.strerror}", file=sys.stderr)
        return _flushed(TandemError.exit_code)
    return _flushed(0)


def _flushed(exit_code: int) -> int:
    # A reader that went away (`tandem policies list | head -1`) shows only when the last of stdout is written.
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_code or 1
    return exit_code
