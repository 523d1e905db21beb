"""`tandem prune`: remove weights, reports, datasets and training states that the settings do not keep."""

from dataclasses import asdict
from typing import Annotated

import typer

from deploy.command.options import Home, Json


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: Json = False,
    home: Home = None,
) -> None:
    """Remove weights, reports and datasets beyond what `[retention]` keeps. Tandem may go on running.

    Never a version that serves, could be rolled back to, is compared with, or is v0; nor a dataset that such a one was
    made from, or that the record could not write again. A timer may run it.
    """
    from deploy.command.output import print_json, say
    from deploy.command.record import open_record
    from deploy.pruning import prune as remove

    with open_record(home, must_exist=True) as (store, settings):
        pruned = remove(store, settings, dry_run=dry_run)
    if json:
        print_json(asdict(pruned) | {"dry_run": dry_run})
        return
    for what, names in (
        ("weights of", pruned.versions),
        ("folder of", pruned.iterations),
        ("dataset", pruned.datasets),
    ):
        for name in names:
            say(f"{'would remove' if dry_run else 'removed'} the {what} {name}")
    say(f"{pruned.bytes / (1 << 20):.1f} MiB {'would be' if dry_run else 'are'} free again")
