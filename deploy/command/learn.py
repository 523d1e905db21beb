"""`tandem learn`: start an iteration now, and follow it to its end."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.command.options import ApiKey, Home, Json, Url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.command.api import Api, Event

RECONNECT_S = 1.0
PATIENCE_S = 60.0
ENDED = ("succeeded", "failed")


def learn(
    detach: Annotated[bool, typer.Option("--detach", help="Start it and return at once.")] = False,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; kept with the iteration.")] = None,
    json: Json = False,
    home: Home = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Start an iteration: freeze the votes, train, evaluate, publish a candidate; and show how far it is.

    Exit code 1 when the iteration fails. Ctrl-C stops only the following.
    """
    from deploy.command.api import open_api
    from deploy.command.output import print_json, say

    with open_api(home, url, key) as api:
        iteration = api.call("POST", "/v1/iterations", json={"reason": reason} if reason else {})
        iteration_id = iteration["id"]
        if not detach:
            say(f"iteration {iteration_id}")
            try:
                iteration = follow(api, iteration_id)
            except KeyboardInterrupt:
                say(f"\nno longer following; iteration {iteration_id} goes on")
                raise typer.Exit(130) from None
    if json:
        print_json(iteration)
    elif detach:
        print(iteration_id)
    elif iteration["state"] == "succeeded":
        print(
            f"{iteration['candidate']} is a candidate; `tandem policies promote {iteration['candidate']}` has it serve"
        )
    else:
        say(f"iteration {iteration_id} failed: {iteration.get('error') or 'for a reason that it did not tell'}")
    if iteration["state"] == "failed":
        raise typer.Exit(1)


def follow(api: "Api", iteration_id: str) -> dict[str, Any]:
    """Show the iteration's events as they come until it has ended; the iteration then.

    A broken stream is taken up again after its last event. Raises NotRunning when the API stays away.
    """
    import time

    from deploy.command.api import ApiRefused
    from deploy.command.output import progress_bar, say
    from feedback.errors import TandemError

    last_id, answered_at = None, time.monotonic()
    with progress_bar() as bar:
        task = bar.add_task("waiting for the learner", total=1.0)
        while True:
            try:
                for event in events_after(api, iteration_id, last_id):
                    last_id, answered_at = event.id or last_id, time.monotonic()
                    stage = event.data.get("stage")
                    if stage is not None:
                        bar.update(task, description=stage, completed=event.data.get("progress", 0.0))
                    line = told(event.kind, event.data)
                    if line:
                        say(line)
                iteration: dict[str, Any] = api.get(f"/v1/iterations/{iteration_id}")
                if iteration["state"] in ENDED:
                    return iteration
            except ApiRefused:
                raise
            except TandemError:
                # The API may be restarted while the learner goes on.
                if time.monotonic() - answered_at > PATIENCE_S:
                    raise
            time.sleep(RECONNECT_S)


def events_after(api: "Api", iteration_id: str, last_id: str | None) -> "Iterator[Event]":
    headers = {} if last_id is None else {"last-event-id": last_id}
    return api.events("GET", f"/v1/iterations/{iteration_id}/events", headers=headers)


def told(kind: str, data: dict[str, Any]) -> str | None:
    """An event as a line; None for those that only move the bar."""
    if kind == "progress":
        return None
    if kind == "stage":
        return str(data["stage"])
    if kind in ENDED:
        return None
    details = ", ".join(f"{name} {shown(value)}" for name, value in data.items() if not isinstance(value, dict | list))
    return f"  {kind}: {details}" if details else f"  {kind}"


def shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
