"""Options that mean the same on every command."""

from pathlib import Path
from typing import Annotated

import typer

from feedback.errors import InvalidRequest
from feedback.objectives import OBJECTIVES


def _or_said_before(context: typer.Context, home: Path | None) -> Path | None:
    """Of `tandem --home DIR COMMAND` the commands hear, too."""
    return home or context.find_root().params.get("home")


Home = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of all state; by default $TANDEM_HOME or ./.tandem.",
        show_default=False,
        callback=_or_said_before,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for programs.")]
Url = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Address of the API; by default $TANDEM_URL or what runs in the home."),
]
ApiKey = Annotated[
    str | None,
    typer.Option("--key", metavar="KEY", help="API key; by default $TANDEM_KEY or the operator's key of the home."),
]
Concurrency = Annotated[int, typer.Option(min=1, max=64, metavar="N", help="How many at the same time.")]
MOST = 1_000_000
"""As many rows as a list is asked for at most."""
Limit = Annotated[int, typer.Option(min=1, max=MOST, metavar="N", help="The newest so many.")]
Objective = Annotated[
    str | None,
    typer.Option(metavar="helpful|harmless", help="Only votes under this objective."),
]


def check_objective(objective: str | None) -> None:
    """Raises InvalidRequest for an objective that there is not."""
    if objective is not None and objective not in OBJECTIVES:
        raise InvalidRequest(f"{objective!r} is not an objective; choose one of {', '.join(OBJECTIVES)}")
