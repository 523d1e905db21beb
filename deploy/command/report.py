"""`tandem report`: a version's evidence as one HTML file that can be sent on."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.command.options import ApiKey, Home, Json, Url
from deploy.command.policies import Version
from feedback.errors import InvalidRequest


def report(
    version: Version,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it; by default VERSION.html here.")
    ] = None,
    json: Json = False,
    home: Home = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Write everything that speaks for and against a version into one HTML file, plots included.

    It runs no script and fetches nothing, so it can be mailed, printed and kept. It holds replies where the evaluation
    kept some, and the reasons of decisions.
    """
    from deploy.command.api import open_api, route
    from deploy.command.output import print_json
    from deploy.report import render

    with open_api(home, url, key) as api:
        policy = api.get(route("policies", version))
        ratings = api.get("/v1/ratings")["data"]
        audit = list(api.pages("/v1/audit", subject=version, order="asc", limit=100))
    path = out or Path(f"{version}.html")
    try:
        path.write_text(render(policy, ratings, audit), encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}", param="out") from error
    if json:
        print_json({"version": version, "path": str(path.absolute()), "bytes": path.stat().st_size})
    else:
        print(path)
