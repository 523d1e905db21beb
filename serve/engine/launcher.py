"""The process that imports vLLM once and forks a server per slot: `python -m serve.engine.launcher`.

A fork with the imports done is ready in seconds, where a fresh process takes half a minute. It has one thread and runs
no model itself, so that forking is safe. It decides nothing: which policy a slot holds, and what to do about a server
that ended, is said by the engine pool of the API process in the words of `serve.engine.launcher_protocol`.
"""

import gc
import json
import logging
import math
import os
import selectors
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from feedback import log_files, temporary_folder
from feedback.errors import Conflict, InvalidRequest, TandemError
from feedback.lifeline import die_with_parent, tie_forks
from feedback.settings import Settings, load_settings
from serve.engine import server, terse_steps
from serve.engine.launcher_protocol import COMMAND_SOCKET, LONGEST_LINE_BYTES, SlotStatus, engine_socket

log = logging.getLogger("tandem.engines")

TIDY_INTERVAL_S = 30.0
ENDING = (signal.SIGTERM, signal.SIGINT)
# For servers to end in, when the launcher does.
GRACE_S = 15.0

# Runs the server of a slot in the process it is called in, and returns when the server has ended.
ServerMain = Callable[[SlotStatus], None]


@dataclass(eq=False)
class Connection:
    """A client: the bytes of a line that is not whole yet, and whether it wants to hear of ends."""

    socket: socket.socket
    pending: bytes = b""
    watching: bool = False


@dataclass(eq=False)
class Slot:
    status: SlotStatus
    after_end: list[Callable[[], None]] = field(default_factory=list)


class Launcher:
    """Slots, the servers in them, and the connections that ask about them."""

    def __init__(
        self, run_dir: Path, slots: int, server_main: ServerMain, tidy: Callable[[], None] = lambda: None
    ) -> None:
        """`tidy` is called every TIDY_INTERVAL_S, and must be quick."""
        self.server_main = server_main
        self._tidy, self._tidy_at = tidy, 0.0
        self.slots = [Slot(SlotStatus(number, str(engine_socket(run_dir, number)))) for number in range(slots)]
        self.connections: list[Connection] = []
        self.selector = selectors.DefaultSelector()
        self.ending = False
        self._kill_at = math.inf
        self._listen(run_dir / COMMAND_SOCKET)
        self._wake_on_signals()

    def run(self) -> None:
        """Serve requests until SIGTERM; return when every server has ended."""
        while not (self.ending and not any(slot.status.alive for slot in self.slots)):
            for key, _ in self.selector.select(self._seconds_to_what_is_due()):
                key.data()
            self._reap()
            self._kill_overdue()
            if self._tidy_at <= time.monotonic():
                self._tidy_at = time.monotonic() + TIDY_INTERVAL_S
                self._tidy()

    def _listen(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen()
        self.selector.register(self.listener, selectors.EVENT_READ, self._accept)

    def _wake_on_signals(self) -> None:
        """A signal makes `select` return, so that ended children are seen at once."""
        self.woken, self.waker = socket.socketpair()
        self.woken.setblocking(False)
        self.waker.setblocking(False)
        signal.set_wakeup_fd(self.waker.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in ENDING:
            signal.signal(number, lambda *_: self._end())
        self.selector.register(self.woken, selectors.EVENT_READ, lambda: self.woken.recv(4096))

    def _end(self) -> None:
        if not self.ending:
            self.ending, self._kill_at = True, time.monotonic() + GRACE_S
            self._signal_all(signal.SIGTERM)

    def _accept(self) -> None:
        accepted, _ = self.listener.accept()
        accepted.settimeout(5.0)
        connection = Connection(accepted)
        self.connections.append(connection)
        self.selector.register(accepted, selectors.EVENT_READ, lambda: self._read(connection))

    def _read(self, connection: Connection) -> None:
        try:
            received = connection.socket.recv(LONGEST_LINE_BYTES)
        except OSError:
            received = b""
        *lines, connection.pending = (connection.pending + received).split(b"\n")
        if not received or len(connection.pending) > LONGEST_LINE_BYTES:
            self._forget(connection)
            return
        for line in lines:
            try:
                self._do(connection, json.loads(line))
            except TandemError as error:
                refusal = {"ok": False, "code": error.code, "error": error.message}
                self._send(connection, refusal)
            except (ValueError, TypeError, AttributeError, KeyError) as error:
                self._send(connection, {"ok": False, "code": "invalid_request", "error": str(error)})

    def _do(self, connection: Connection, request: dict[str, Any]) -> None:
        wanted = request.get("do")
        if wanted in ("status", "watch"):
            connection.watching |= wanted == "watch"
            self._answer(connection, self.slots)
        elif wanted == "restart":
            self._restart(connection, self._slot(request["slot"]), str(request["policy"]))
        else:
            raise InvalidRequest(f"unknown request {wanted!r}", param="do")

    def _restart(self, connection: Connection, slot: Slot, policy: str) -> None:
        if not (Path(policy) / "config.json").is_file():
            raise InvalidRequest(f"{policy} has no config.json", param="policy")
        if self.ending:
            raise Conflict("the engines are being shut down")

        def start() -> None:
            if not self.ending:
                self._start(slot, policy)
            self._answer(connection, [slot])

        self._after_end(slot, start)

    def _slot(self, number: object) -> Slot:
        if not isinstance(number, int) or not 0 <= number < len(self.slots):
            there_are = f"there are {len(self.slots)} by the launcher's engine.slots"
            raise InvalidRequest(
                f"no slot {number!r}; {there_are}: have one number in all and start anew", param="slot"
            )
        return self.slots[number]

    def _answer(self, connection: Connection, slots: list[Slot]) -> None:
        told = [slot.status.to_line() for slot in slots]
        self._send(connection, {"ok": True, "slots": told})

    def _send(self, connection: Connection, message: dict[str, Any]) -> None:
        if connection not in self.connections:
            return
        try:
            connection.socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        self.connections.remove(connection)
        self.selector.unregister(connection.socket)
        connection.socket.close()

    def _start(self, slot: Slot, policy: str) -> None:
        slot.status = replace(slot.status, state="running", policy=policy, started_at=time.time())
        # One that is asked to end at once must not take that for the launcher's own end.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        pid = os.fork()
        if pid == 0:
            self._become_server(slot.status)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        slot.status = replace(slot.status, pid=pid, exit_code=None, asked=False)
        log.info("slot %d: started process %d", slot.status.slot, pid)

    def _become_server(self, status: SlotStatus) -> None:
        """In the fork: let go of all that is the launcher's, serve, and never return."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, *ENDING):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            self.selector.close()
            inherited = [connection.socket for connection in self.connections]
            for opened in (self.listener, self.woken, self.waker, *inherited):
                opened.close()
            self.server_main(status)
            code = 0
        except Exception:
            log.exception("slot %d: the server failed", status.slot)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _after_end(self, slot: Slot, action: Callable[[], None]) -> None:
        """Do `action` when nothing runs in the slot: now, or when its server has been killed."""
        if not slot.status.alive:
            action()
            return
        slot.after_end.append(action)
        self._signal(slot, signal.SIGKILL)

    def _signal(self, slot: Slot, number: signal.Signals) -> None:
        if slot.status.alive and slot.status.pid is not None:
            os.kill(slot.status.pid, number)
            slot.status = replace(slot.status, state="stopping", asked=True)

    def _signal_all(self, number: signal.Signals) -> None:
        for slot in self.slots:
            self._signal(slot, number)

    def _seconds_to_what_is_due(self) -> float:
        return max(0.0, min(self._tidy_at, self._kill_at) - time.monotonic())

    def _kill_overdue(self) -> None:
        if self._kill_at <= time.monotonic():
            self._kill_at = math.inf
            self._signal_all(signal.SIGKILL)

    def _reap(self) -> None:
        for slot in self.slots:
            if not slot.status.alive or slot.status.pid is None:
                continue
            pid, wait_status = os.waitpid(slot.status.pid, os.WNOHANG)
            if pid:
                self._ended(slot, os.waitstatus_to_exitcode(wait_status))

    def _ended(self, slot: Slot, exit_code: int) -> None:
        slot.status = replace(slot.status, state="ended", exit_code=exit_code)
        asked = "as asked" if slot.status.asked else "without being asked"
        log.info("slot %d: ended with %d, %s", slot.status.slot, exit_code, asked)
        for connection in [other for other in self.connections if other.watching]:
            self._send(connection, {"event": "ended", "slot": slot.status.to_line()})
        actions, slot.after_end = slot.after_end, []
        for action in actions:
            self._after_end(slot, action)


def vllm_server(settings: Settings, device: str, status: SlotStatus) -> None:
    """What a fork becomes: vLLM's server, writing to a log of its own."""
    output = os.open(_log_of(settings, status.slot), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    policy = Path(status.policy or "")
    own = temporary_folder.held() / str(status.slot)
    shutil.rmtree(own, ignore_errors=True)  # what the slot's last server left
    own.mkdir()
    temporary_folder.use(own)
    os.environ["VLLM_RPC_BASE_PATH"] = str(own)  # the sockets between a server and its engine
    terse_steps.install(device)
    server.run(server.server_arguments(settings.engine, policy, Path(status.socket), device))


def main() -> int:
    """Import vLLM, then serve requests until SIGTERM."""
    die_with_parent()
    # Servers and the engine processes that they fork end with whoever forked them, too.
    tie_forks()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    os.umask(0o077)
    try:
        settings = load_settings()
        _prepare_and_serve(settings)
    except TandemError as error:
        log.error("%s", error.message)
        return error.exit_code
    return 0


def _prepare_and_serve(settings: Settings) -> None:
    for folder in (settings.run_dir, settings.home / "logs"):
        folder.mkdir(parents=True, exist_ok=True)
    settings.run_dir.chmod(0o700)
    server.prepare_environment(settings.engine)
    temporary_folder.take()
    _serve_requests(settings)


def _log_of(settings: Settings, slot: int) -> Path:
    return settings.home / "logs" / f"engine-{slot}.log"


def _serve_requests(settings: Settings) -> None:
    def bound_logs() -> None:
        for slot in range(settings.engine.slots):
            try:
                log_files.bound(_log_of(settings, slot), settings.log_bytes)
            except OSError as error:
                log.warning("the log of engine %d cannot be set aside: %s", slot, error.strerror)

    device = server.engine_device(settings.engine.device)
    server.import_server(device)
    server.check_arguments(settings.engine, device)
    gc.collect()
    gc.freeze()  # what is imported stays shared with the forks
    log.info("ready to start engines on %s", device)
    slots = settings.engine.slots
    Launcher(settings.run_dir, slots, lambda status: vllm_server(settings, device, status), bound_logs).run()


if __name__ == "__main__":
    sys.exit(main())
