"""`tandem learn`: start an iteration now, and follow it to its end."""

import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.command.options import ApiKey, Home, Json, Url
from feedback.errors import TandemError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from deploy.command.api import Api, Event

RECONNECT_S = 1.0
LOOK_INTERVAL_S = 0.5
PATIENCE_S = 60.0
ENDED = ("succeeded", "failed")
SHOWN = (str, int, float)


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

    A broken stream is taken up again after its last event: the API may be restarted while the learner goes on.
    Raises NotRunning when the API stays away for a minute.
    """
    from deploy.command.api import ApiRefused
    from deploy.command.output import progress_bar

    last_id: str | None = None
    failing_since: float | None = None
    with progress_bar() as bar, progress_shown(api, iteration_id, bar):
        while True:
            try:
                for event in events_after(api, iteration_id, last_id):
                    last_id = event.id or last_id
                    tell(event)
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


@contextmanager
def progress_shown(api: "Api", iteration_id: str, bar: "Progress") -> "Iterator[None]":
    """Move the bar as the learner advances within a stage, of which there are no events."""
    task = bar.add_task("waiting for the learner", total=1.0)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(LOOK_INTERVAL_S):
            # An API that does not answer is the business of whoever listens for events.
            with suppress(TandemError):
                iteration = api.get(f"/v1/iterations/{iteration_id}")
                if iteration["stage"] is not None:
                    bar.update(task, description=iteration["stage"], completed=iteration["progress"])

    watching = threading.Thread(target=watch, daemon=True)
    if not bar.disable:
        watching.start()
    try:
        yield
    finally:
        ended.set()
        if watching.is_alive():
            watching.join()


def tell(event: "Event") -> None:
    """Say an event as a line; how it ended is said at the end."""
    from deploy.command.output import say

    if event.kind == "stage":
        say(event.data["stage"])
    elif event.kind not in ENDED:
        say(f"  {told(event.kind, event.data)}")


def told(kind: str, data: dict[str, Any]) -> str:
    """`step: 3, kl 0.41`: an event's plain figures after its kind."""
    figures = {name: value for name, value in data.items() if name not in ("kind", "created")}
    details = ", ".join(f"{name} {shown(value)}" for name, value in figures.items() if isinstance(value, SHOWN))
    return f"{kind}: {details}" if details else kind


def shown(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
