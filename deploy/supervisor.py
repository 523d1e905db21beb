"""Brings a stack up, keeps it running and takes it down: one process that everything else ends with."""

import asyncio
import contextlib
import errno
import http.client
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Literal

from deploy.announcer import Announcer
from deploy.operator_key import ensure_operator_key
from deploy.processes import Supervised, redis_program, tandem_programs
from deploy.running import StackState, forget_state, prepare_home, take_home, write_state
from feedback import chat_template, log_files
from feedback.addresses import called, http_url
from feedback.errors import Conflict, NotFound, PolicyInvalid, SettingsInvalid, TandemError
from feedback.lifeline import tied
from feedback.lost_record import RESTORING, require_record
from feedback.schema import version_name
from feedback.settings import Settings
from feedback.store import Store, policies

REDIS_TIMEOUT_S = 20.0
# A process that ends this often while the stack starts will not come up by itself.
HOPELESS_ENDS = 4
LOGS_INTERVAL_S = 30.0
# As the preparation and the API process log it, in plain lines or in JSON.
NO_TEMPLATE = re.compile(r'[^"\s]+ has no chat template[^"\n]*')
NO_START = re.compile(r'engine \d+ did not start: ([^"\n]+)')


class StartFailed(TandemError):
    """A part of the stack did not come up."""

    code = "start_failed"


class PortInUse(Conflict):
    """Something else listens where the API should."""

    code = "port_in_use"


def run_stack(settings: Settings, announcer: Announcer) -> bool:
    """Run the stack of `settings.home` in this process until SIGINT, SIGTERM or its terminal goes; whether it was ready
    by then.

    Raises Conflict where the home has lost its record, RecordUnavailable, HomeInUse, PortInUse, StartFailed,
    PolicyInvalid, RedisMissing; nothing is left running then.
    """
    os.umask(0o077)
    prepare_home(settings.home)
    with take_home(settings.home):
        require_record(settings)
        # Of a restore that was killed when all of it was there.
        shutil.rmtree(settings.home / RESTORING, ignore_errors=True)
        port = free_port(settings.serve.host, settings.serve.port)
        return asyncio.run(Stack(settings, port, announcer).run())


class Stack:
    """The processes of one home, and what is told about them."""

    def __init__(self, settings: Settings, port: int, announcer: Announcer) -> None:
        self.settings = settings
        self.port = port
        self.announcer = announcer
        self.processes: list[Supervised] = []
        self.state: Literal["starting", "ready", "ending"] = "starting"
        self.started_at = time.time()
        self.stopping = asyncio.Event()
        self.written = True
        # Why engines did not start so far, each reason once.
        self._no_starts = set[str]()
        self._api_log = settings.home / "logs" / "api.log"
        self._read_until = self._api_log.stat().st_size if self._api_log.exists() else 0
        self.host, self.url = called(settings.serve.host), http_url(settings.serve.host, port)

    async def run(self) -> bool:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # With `nohup` it stays when the terminal goes.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, self._asked_to_end, number)
        try:
            bounding = asyncio.create_task(self._bound_logs())
            starting = asyncio.create_task(self._start())
            stopping = asyncio.create_task(self.stopping.wait())
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stopping
                return True
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            return False
        finally:
            bounding.cancel()
            await self._end()

    async def _bound_logs(self) -> None:
        """Set aside, again and again, what has grown too large."""
        while True:
            for file in sorted((self.settings.home / "logs").glob("*.log")):
                try:
                    await asyncio.to_thread(log_files.bound, file, self.settings.log_bytes)
                except OSError as error:
                    self.announcer.warn(f"{file} is larger than log_bytes and cannot be set aside: {error.strerror}")
            if not self.written:
                self._write_down()
            await asyncio.sleep(LOGS_INTERVAL_S)

    def _asked_to_end(self, number: signal.Signals) -> None:
        # Ctrl-C once more: at once. `tandem down` may be asked by several who do not know of each other.
        if self.stopping.is_set() and number == signal.SIGINT:
            for process in self.processes:
                process.kill()
        self.stopping.set()
        if number == signal.SIGHUP:
            # Nobody reads any more, and a terminal that is gone refuses what is said.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())

    async def _start(self) -> None:
        self._write_down()
        environment = self._environment()
        engines, *others = [
            Supervised(program, self._write_down) for program in tandem_programs(self.settings, environment)
        ]
        # The longest way first: it imports while the rest is prepared.
        await self._run_process(engines)
        await self._start_redis()
        await self._prepare_record(environment)
        for process in others:
            await self._run_process(process)
        await self._wait_until_ready()
        self.state = "ready"
        self._write_down()
        key = self.settings.home / "operator.key"
        self.announcer.ready(f"Tandem is at {self.url}; the operator's key is in {key}")

    async def _run_process(self, process: Supervised) -> None:
        self.processes.append(process)
        await process.start()

    async def _start_redis(self) -> None:
        if self.settings.given_redis is None:
            await self._run_process(Supervised(redis_program(self.settings), self._write_down))
            with self.announcer.step("starting Redis"):
                up = f"Redis did not start; see {self.settings.home / 'logs' / 'redis.log'}"
                await self._until(lambda: why_silent(self.settings.broker_url) is None, REDIS_TIMEOUT_S, up)
        elif reason := await asyncio.to_thread(why_silent, self.settings.broker_url):
            self.announcer.warn(f"Redis does not answer ({reason}): votes are taken, and counted once it does")

    async def _prepare_record(self, environment: dict[str, str]) -> None:
        with self.announcer.step("bringing the record up to date"):
            store = Store(self.settings.record_url)
            try:
                await asyncio.to_thread(store.migrate)
                ensure_operator_key(store, self.settings.home)
                start = store.read(policies.get, 0)
            except NotFound:
                start = None
            finally:
                store.close()
        if start is None:
            with self.announcer.step(f"preparing the starting policy ({self.settings.policy})"):
                said = await prepare_policy(self.settings, environment)
            for warning in NO_TEMPLATE.findall(said):
                self.announcer.warn(warning)
            if self.settings.policy == "builtin":
                self.announcer.warn(
                    "the built-in policy is a toy, to see the loop go round: it was taught sums, opposites, colours,"
                    " capitals and how to cut a cake; `tandem up --home ./new --policy FOLDER` begins with a real one"
                )
        elif self.settings.policy not in ("builtin", start.settings["policy"]):
            self.announcer.warn(
                f"this home started from {start.settings['policy']} and goes on with it; for "
                f"{self.settings.policy} use another --home"
            )
        if self.settings.serve.system_prompt:
            await asyncio.to_thread(self._check_system_prompt)

    def _check_system_prompt(self) -> None:
        """Said now: the API process would only go on trying. Raises PolicyInvalid."""
        store = Store(self.settings.record_url)
        try:
            serving = store.read(policies.serving)
        finally:
            store.close()
        if serving is not None:
            name, folder = version_name(serving.version), self.settings.home / serving.path
            chat_template.check_takes_system_prompt(folder, name, self.settings)

    async def _wait_until_ready(self) -> None:
        commands = self.settings.run_dir / "engines.sock"
        patience_s = 2 * self.settings.engine.start_timeout_s
        with self.announcer.step("importing vLLM"):
            await self._until(commands.exists, patience_s, "the engine launcher did not come up; see logs/engines.log")
        with self.announcer.step("loading the policy into the engines"):
            late = f"no engine was ready within {patience_s:.0f} s; see logs/api.log and logs/engine-0.log"
            await self._until(self._is_ready, patience_s, late)

    def _is_ready(self) -> bool:
        """And say why an engine does not start: it is tried again and again, which may never do."""
        if self._api_log.exists():
            with self._api_log.open(errors="replace") as log:
                log.seek(self._read_until)
                for why in NO_START.findall(log.read()):
                    if why not in self._no_starts:
                        self._no_starts.add(why)
                        self.announcer.warn(f"an engine did not start, and is tried again: {why}")
                self._read_until = log.tell()
        return is_ready(self.host, self.port)

    async def _until(self, reached: Callable[[], bool], patience_s: float, otherwise: str) -> None:
        """Wait for something, while nothing that it needs ends again and again."""
        until = time.monotonic() + patience_s
        while not await asyncio.to_thread(reached):
            for process in self.processes:
                wrong_settings = process.state.exit_code == SettingsInvalid.exit_code
                if wrong_settings or process.quick_ends >= HOPELESS_ENDS:
                    name, log, words = process.program.name, process.program.log, process.last_words()
                    raise StartFailed(f"{name} ended with code {process.state.exit_code}: {words} (see {log})")
            if time.monotonic() > until:
                raise StartFailed(otherwise)
            await asyncio.sleep(0.3)

    async def _end(self) -> None:
        """The API first, which lets replies in flight finish while everything else still runs; Redis last."""
        self.state = "ending"
        self._write_down()
        first = [process for process in self.processes if process.program.name == "api"]
        last = [process for process in self.processes if process.program.name == "redis"]
        between = [process for process in self.processes if process not in first + last]
        with self.announcer.step("ending"):
            for together in (first, between, last):
                await asyncio.gather(*(process.stop() for process in together))
        forget_state(self.settings.home)

    def _environment(self) -> dict[str, str]:
        """What the processes read their settings from, so that all of them see those of this one."""
        settings = self.settings
        return {
            "TANDEM_HOME": str(settings.home),
            "TANDEM_POLICY": settings.policy,
            "TANDEM_SERVE__HOST": settings.serve.host,
            "TANDEM_SERVE__PORT": str(self.port),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONUNBUFFERED": "1",
        }

    def _write_down(self) -> None:
        """For `tandem status`. Where the disk is full the processes go on, and it is tried again."""
        processes = [process.state for process in self.processes]
        state = StackState(os.getpid(), self.state, self.url, self.started_at, processes)
        try:
            write_state(self.settings.home, state)
            self.written = True
        except OSError as error:
            if self.written:
                self.announcer.warn(f"what `tandem status` says is old: {self.settings.run_dir}: {error.strerror}")
            self.written = False


async def prepare_policy(settings: Settings, environment: dict[str, str]) -> str:
    """Make v0. Returns what the preparation said; raises PolicyInvalid with its last words."""
    log = settings.home / "logs" / "prepare.log"
    process = await asyncio.create_subprocess_exec(
        *tied([sys.executable, "-m", "learner.prepare"]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    try:
        said, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    await asyncio.to_thread(log.write_bytes, said)
    if process.returncode != 0:
        lines = said.decode(errors="replace").strip().splitlines() or ["it left no word"]
        raise PolicyInvalid(f"{lines[-1].removeprefix('tandem: ')} (see {log})", param="policy")
    return said.decode(errors="replace")


def free_port(host: str, port: int) -> int:
    """`port` itself, or a free one for 0. Raises PortInUse, and Conflict for a host that is not of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EADDRNOTAVAIL) or isinstance(error, socket.gaierror):
                raise Conflict(f"cannot listen on {host}:{port}: {error.strerror}") from error
            raise PortInUse(
                f"port {port} of {host} is in use; choose another with --port or TANDEM_SERVE__PORT; 0 takes a free one"
            ) from error
        return int(probe.getsockname()[1])


def why_silent(redis_url: str, *, takes: bool = False) -> str | None:
    """Why Redis does not answer a ping, or None when it does; with `takes`, why nothing can be put there."""
    import redis

    try:
        with redis.Redis.from_url(redis_url.replace("redis+socket://", "unix://"), socket_timeout=2) as client:
            client.set("tandem.doctor", "", px=1) if takes else client.ping()
        return None
    except (redis.RedisError, TypeError, ValueError) as error:
        # The latter two of what stands behind the `?` of its URL.
        return str(error).rstrip(".") or type(error).__name__


def is_ready(host: str, port: int) -> bool:
    """Whether the API says that it is ready."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
