"""Writes docs/commands.md from the commands themselves: `python -m deploy.command.reference > docs/commands.md`."""

import inspect
from collections.abc import Iterator
from typing import Any

INTRODUCTION = """# Commands

Made by `make docs`; a test fails when it is out of step.

Data goes to stdout, everything else to stderr. An error is one line that says what is wrong, and an exit code:

| exit code | means |
|---|---|
| 0 | done |
| 1 | it failed |
| 2 | it cannot be asked for in this way |
| 3 | there is no such thing |
| 4 | Tandem does not run there |
| 130 | interrupted by Ctrl-C |

`NO_COLOR` is respected. These options mean the same wherever they stand, `--home` before the command, too:

| | |
|---|---|
| `--home DIR` | Folder of all state: record, policies, keys, logs. By default `$TANDEM_HOME`, else `./.tandem`. |
| `--json` | Print JSON on stdout, for programs. |
| `--url URL` | Address of the API. By default `$TANDEM_URL`, else what runs in the home. |
| `--key KEY` | API key. By default `$TANDEM_KEY`, else the operator's key of the home. |

Where `--home` is given, `$TANDEM_URL`, and a `$TANDEM_KEY` beside it, are passed over: they may be of another home.
"""
EVERYWHERE = ("--home", "--json", "--url", "--key")
UNSAID = ("--help", "-h")


def render() -> str:
    """The whole page."""
    import typer

    from deploy.command import app

    return "\n".join([INTRODUCTION, *sections(typer.main.get_command(app), "tandem", None)])


def sections(command: Any, path: str, parent: Any) -> Iterator[str]:
    """The section of a command, or those of the commands below it. `command` is Typer's, `parent` its context."""
    context = command.make_context(path, [], parent=parent, resilient_parsing=True)
    below = getattr(command, "commands", {})
    for name, subcommand in below.items():
        yield from sections(subcommand, f"{path} {name}", context)
    if not below:
        yield section(command, path, context)


def section(command: Any, path: str, context: Any) -> str:
    """Heading, usage, what it does, and a table of the options that are its own."""
    usage = " ".join([path, *(piece.strip("{}") for piece in command.collect_usage_pieces(context))])
    lines = [f"## {path}", "", f"    {usage}", "", inspect.cleandoc(command.help or "")]
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    told = [record for record in records if record is not None and not record[0].startswith(UNSAID)]
    own = [record for record in told if not record[0].startswith(EVERYWHERE)]
    if own:
        lines += ["", "| | |", "|---|---|", *(row(written, meaning) for written, meaning in own)]
    shared = [f"`{written.split()[0]}`" for written, _ in told if written.startswith(EVERYWHERE)]
    if shared:
        lines += ["", f"And {', '.join(shared)}."]
    return "\n".join([*lines, ""])


def row(written: str, meaning: str) -> str:
    written, meaning = (" ".join(text.split()).replace("|", "\\|") for text in (written, meaning))
    # An argument's record names its type as well.
    name = written if written.startswith("-") else written.split()[0].strip("{}")
    return f"| `{name}` | {meaning} |"


if __name__ == "__main__":
    print(render(), end="")
