"""`tandem learn`: start an iteration now, and follow it to its end."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.command.options import ApiKey, Home, Json, Url
from feedback.errors import TandemError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from deploy.command.api import Api, Event

RECONNECT_S = 1.0
PATIENCE_S = 60.0
ENDED = ("succeeded", "failed", "cancelled")
CONFLICT = 409
SHOWN = (str, int, float)
UNSAID = ("kind", "created", "frozen_at")
PPO_FIGURES = ("step", "reward", "kl_nats", "length_tokens")


def learn(
    detach: Annotated[bool, typer.Option("--detach", help="Start it and return at once.")] = False,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; kept with the iteration.")] = None,
    json: Json = False,
    home: Home = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Start an iteration and follow it. It freezes the votes, trains, evaluates, and publishes a candidate.

    When one is under way already, that one is followed. Exit code 1 when it makes no candidate. Ctrl-C stops only the
    following; `tandem iterations cancel` stops the iteration.
    """
    from deploy.command.api import open_api
    from deploy.command.output import print_json, say

    with open_api(home, url, key) as api:
        iteration = started(api, reason)
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
        version = iteration["candidate"]
        print(
            f"{version} is a candidate; `tandem policies show {version}` says what speaks for and against it and "
            "how it comes to serve"
        )
    elif iteration["state"] == "cancelled":
        say(f"iteration {iteration_id} was cancelled")
    else:
        say(f"iteration {iteration_id} failed: {iteration.get('error') or 'for a reason that it did not tell'}")
    if iteration["state"] in ("failed", "cancelled"):
        raise typer.Exit(1)


def started(api: "Api", reason: str | None) -> dict[str, Any]:
    """A new iteration, or the one that is under way: enough votes may have started it a moment ago."""
    from deploy.command.api import ApiRefused
    from deploy.command.output import say

    try:
        return api.call("POST", "/v1/iterations", json={"reason": reason} if reason else {})
    except ApiRefused as refusal:
        newest = api.get("/v1/iterations?limit=1")["data"]
        if refusal.status != CONFLICT or not newest or newest[0]["state"] in ENDED:
            raise
        say(f"{newest[0]['id']} is {newest[0]['state']} already, started by {newest[0]['trigger']}")
        iteration: dict[str, Any] = newest[0]
        return iteration


def follow(api: "Api", iteration_id: str) -> dict[str, Any]:
    """Show the iteration's events as they come until it has ended; the iteration then.

    A broken stream is taken up again after its last event: the API may be restarted while the learner goes on.
    Raises NotRunning when the API stays away for a minute.
    """
    from deploy.command.api import ApiRefused
    from deploy.command.output import progress_bar

    last_id: str | None = None
    failing_since: float | None = None
    with progress_bar() as bar:
        bar.add_task("waiting for the learner", total=None)
        while True:
            try:
                for event in events_after(api, iteration_id, last_id):
                    last_id = event.id or last_id
                    show(event, bar)
                iteration: dict[str, Any] = api.get(f"/v1/iterations/{iteration_id}")
                if iteration["state"] in ENDED:
                    return iteration
                failing_since = None
            except ApiRefused:
                raise
            except TandemError:
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > PATIENCE_S:
                    raise
            time.sleep(RECONNECT_S)


def events_after(api: "Api", iteration_id: str, last_id: str | None) -> "Iterator[Event]":
    headers = {} if last_id is None else {"last-event-id": last_id}
    return api.events("GET", f"/v1/iterations/{iteration_id}/events", headers=headers)


def show(event: "Event", bar: "Progress") -> None:
    """Move the bar, and say what is worth a line."""
    from deploy.command.output import say

    if event.kind == "stage":
        # Anew: what the stage before took tells nothing of how long this one will, or that it has steps.
        for row in bar.task_ids:
            bar.remove_task(row)
        bar.add_task(event.data["stage"], total=None)
    elif "step" in event.data and "steps" in event.data:
        bar.update(bar.task_ids[-1], completed=event.data["step"], total=event.data["steps"])
    line = told(event.kind, event.data)
    if line is not None:
        say(line)


def told(kind: str, data: dict[str, Any]) -> str | None:
    """An event as a line: its plain figures after its kind. None for what only moves the bar or is said at the end."""
    if kind in ENDED or (kind.endswith("_step") and kind != "ppo_step"):
        return None
    if kind == "stage":
        return str(data["stage"])
    names = PPO_FIGURES if kind == "ppo_step" else [name for name in data if name not in UNSAID]
    figures = [f"{name} {shown(data[name])}" for name in names if isinstance(data.get(name), SHOWN)]
    return "  " + (f"{kind}: {', '.join(figures)}" if figures else kind)


def shown(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
