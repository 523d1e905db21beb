"""`tandem iterations`: the turns of the loop so far, and cancelling the one that is under way."""

from typing import Annotated, Any

import typer

from deploy.command.options import ApiKey, Home, Json, Limit, Url

app = typer.Typer(help="List iterations, cancel one.", no_args_is_help=True)


@app.command("list")
def list_iterations(
    limit: Limit = 20,
    json: Json = False,
    home: Home = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """List iterations, the newest first. `tandem learn` starts one."""
    from itertools import islice

    from deploy.command.api import open_api
    from deploy.command.output import print_json, print_table, when

    with open_api(home, url, key) as api:
        known = list(islice(api.pages("/v1/iterations"), limit))
    if json:
        print_json(known)
        return
    rows = [
        (one["id"], one["state"], stage(one), one["trigger"], when(one["created"]), one["candidate"], one["error"])
        for one in known
    ]
    print_table(("ITERATION", "STATE", "STAGE", "STARTED BY", "CREATED", "MADE", "ERROR"), rows)


def stage(iteration: dict[str, Any]) -> str | None:
    """What it does, and while it does, how much of that is done."""
    if iteration["state"] == "running" and iteration["stage"] and iteration["progress"]:
        return f"{iteration['stage']} {iteration['progress']:.0%}"
    name: str | None = iteration["stage"]
    return name


@app.command("cancel")
def cancel(
    iteration: Annotated[
        str | None, typer.Argument(metavar="ITERATION", help="Which one; by default the one that is under way.")
    ] = None,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; kept in the audit.")] = None,
    json: Json = False,
    home: Home = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Cancel an iteration: it ends without a candidate, and the learner is free.

    Its votes are learnt from by the next one.
    """
    from deploy.command.api import open_api, route
    from deploy.command.output import print_json, say
    from feedback.errors import NotFound

    with open_api(home, url, key) as api:
        if iteration is None:
            newest = api.get("/v1/iterations?limit=1")["data"]
            if not newest or newest[0]["finished"] is not None:
                raise NotFound("no iteration is under way")
            iteration = newest[0]["id"]
        ended = api.call("POST", route("iterations", iteration, "cancel"), json={"reason": reason} if reason else {})
    if json:
        print_json(ended)
    else:
        say(f"iteration {ended['id']} is cancelled")
