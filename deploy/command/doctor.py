"""`tandem doctor`: what is wrong on this machine or in this home, and what to do about it."""

from dataclasses import asdict

import typer

from deploy.command.options import Home, Json
from deploy.command.output import print_json, print_table


def doctor(home: Home = None, json: Json = False) -> None:
    """Check this machine and a home. Exit code 1 when something is wrong."""
    from deploy.doctor import examine
    from feedback.settings import load_settings

    findings = examine(load_settings(home=home))
    if json:
        print_json([asdict(finding) for finding in findings])
    else:
        rows = [(finding.verdict, finding.what, finding.found, finding.advice or "") for finding in findings]
        print_table(("", "what", "found", "what to do"), rows)
    if any(finding.verdict == "wrong" for finding in findings):
        raise typer.Exit(1)
