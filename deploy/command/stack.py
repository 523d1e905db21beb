"""`tandem up`, `down`, `status`: the processes of a home."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command.options import Home, Json
from deploy.command.output import print_json, print_table, say
from feedback.errors import TandemError

if TYPE_CHECKING:
    from deploy.running import StackState
    from feedback.settings import Settings

Port = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, max=65535, help="Port of the API (8080); 0 takes a free one.", show_default=False),
]
Policy = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|HF_ID",
        help="Starting policy of a new home: a Hugging Face folder or a hub name. By default the built-in one.",
        show_default=False,
    ),
]
Detach = Annotated[bool, typer.Option("--detach", help="Go to the background once it is ready.")]

DOWN_TIMEOUT_S = 90.0


def up(home: Home = None, port: Port = None, policy: Policy = None, detach: Detach = False) -> None:
    """Start the stack of a home: Redis, the engines, the API, the workers.

    Ends with the address and where the key is. Ctrl-C takes everything down again.
    """
    from feedback.policy_config import require_one

    settings = settings_for(home, port, policy)
    if settings.has_no_record:
        require_one(settings.policy)  # before a home is made for it; one that is there has a policy
    if detach:
        start_detached(settings)
        return
    from deploy.announcer import Announcer
    from deploy.supervisor import run_stack

    if not run_stack(settings, Announcer()):
        raise typer.Exit(130)


def settings_for(home: Path | None, port: int | None, policy: str | None) -> "Settings":
    """The settings, with what the command line says put over them."""
    from feedback.settings import load_settings

    settings = load_settings(home=home, policy=policy)
    if port is None:
        return settings
    return settings.model_copy(update={"serve": settings.serve.model_copy(update={"port": port})})


def start_detached(settings: "Settings") -> None:
    """Start a supervisor that outlives this process, and show its progress until it is ready."""
    from deploy.running import prepare_home

    prepare_home(settings.home)
    log = settings.home / "logs" / "supervisor.log"
    command = [sys.executable, "-m", "deploy.command", "up", "--home", str(settings.home)]
    command += ["--port", str(settings.serve.port), "--policy", settings.policy]
    with log.open("ab") as output:
        log.chmod(0o600)
        begin = output.tell()
        supervisor = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        words = follow(supervisor, settings.home, log, begin)
    except KeyboardInterrupt:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait()
        raise
    if supervisor.returncode is not None:
        failure = TandemError(words.removeprefix("tandem: "))
        failure.exit_code = supervisor.returncode
        raise failure
    print(words)


def follow(supervisor: subprocess.Popen[bytes], home: Path, log: Path, begin: int) -> str:
    """Pass on the lines of the log from byte `begin` on, until the stack is ready or has ended.

    Returns the last line: where to open it, or what was wrong.
    """
    from deploy.running import read_state

    last = ""
    with log.open(errors="replace") as lines:
        lines.seek(begin)
        while True:
            state = read_state(home)
            over = supervisor.poll() is not None or (
                state is not None and state.pid == supervisor.pid and state.state == "ready"
            )
            if over:
                time.sleep(0.2)  # its last line
            for line in lines:
                if last:
                    say(last)
                last = line.rstrip()
            if over:
                return last
            time.sleep(0.2)


def down(home: Home = None) -> None:
    """End the stack of a home, replies in flight first."""
    from deploy.running import NOT_BY_UP, goes_on_by_itself, is_held, read_state
    from feedback.errors import Conflict
    from feedback.settings import load_settings

    folder = load_settings(home=home).home
    if not is_held(folder):
        if goes_on_by_itself(folder):
            raise Conflict(f"{folder} is in use: {NOT_BY_UP}; end them by that")
        say(f"nothing runs for {folder}")
        return
    until = time.monotonic() + DOWN_TIMEOUT_S
    asked: int | None = None
    while is_held(folder):
        # One that is just being started says who it is in a moment.
        if asked is None and (state := read_state(folder)) is not None:
            asked = state.pid
            with contextlib.suppress(ProcessLookupError):
                os.kill(asked, signal.SIGTERM)
        if time.monotonic() > until:
            who = "what runs there" if asked is None else f"process {asked}"
            hint = "" if asked is None else f"; kill -9 {asked}"
            raise TandemError(f"{who} did not end within {DOWN_TIMEOUT_S:.0f} s{hint}")
        time.sleep(0.1)
    say(f"ended what ran for {folder}")


def status(home: Home = None, json: Json = False) -> None:
    """What runs for a home. Exit code 4 when nothing does, or nothing that `tandem up` started."""
    from deploy.running import NOT_BY_UP, read_state, runs_by_itself
    from feedback.settings import load_settings

    folder = load_settings(home=home).home
    state = read_state(folder)
    by_itself = state is None and runs_by_itself(folder)
    if json:
        said = {"state": "unknown" if by_itself else "down"} if state is None else asdict(state)
        print_json({"home": str(folder), **said})
    elif by_itself:
        say(f"of {folder} nothing is known: {NOT_BY_UP}; ask that")
    elif state is None:
        say(f"nothing runs for {folder}; start it with `tandem up`")
    else:
        say(f"{state.state} at {state.url}, home {folder}, process {state.pid}, up {uptime(state)}")
        rows = [(p.name, p.state, p.pid, p.restarts, p.exit_code) for p in state.processes]
        print_table(("process", "state", "pid", "restarts", "last exit code"), rows)
    if state is None:
        raise typer.Exit(4)


def uptime(state: "StackState") -> str:
    # The clock may have been set back since.
    hours, rest = divmod(max(0, int(time.time() - state.started_at)), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
