"""The processes of a stack: what each one runs, and one of them kept running."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from deploy.redis_server import find_redis_server, redis_command
from deploy.running import ProcessState
from feedback.lifeline import tied
from feedback.settings import Settings

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
# A process that ran for this long is taken to have started well.
SETTLED_S = 30.0


@dataclass(frozen=True)
class Program:
    """What to run, where its output goes, and how long it may take to end."""

    name: str
    command: list[str]
    log: Path
    grace_s: float
    environment: Mapping[str, str] = field(default_factory=dict)


def redis_program(settings: Settings) -> Program:
    """Raises RedisMissing."""
    log = settings.home / "logs" / "redis.log"
    return Program("redis", redis_command(find_redis_server(), settings.home), log, grace_s=10)


def tandem_programs(settings: Settings, environment: Mapping[str, str]) -> list[Program]:
    """Everything but Redis, in the order in which it is started."""

    def python(name: str, *arguments: str, grace_s: float) -> Program:
        log = settings.home / "logs" / f"{name}.log"
        return Program(name, [sys.executable, *arguments], log, grace_s, environment)

    def celery(name: str, app: str, queue: str, grace_s: float) -> Program:
        # Quiet is without the banner at the start, twenty lines that are no JSON.
        node = ("-m", "celery", "--quiet", "-A", app, "worker", "-Q", queue, "-n", f"{queue}@%h")
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO")
        return python(name, *node, "--pool", "prefork", "--concurrency", "1", *quiet, grace_s=grace_s)

    scores = settings.serve.max_best_of > 1 or settings.serve.reject_strange_prompts != "off"
    return [
        python("engines", "-m", "serve.engine.launcher", grace_s=20),
        celery("votes", "feedback.worker", "votes", grace_s=10),
        # An iteration in progress goes on from its last checkpoint at the next start: nothing to wait for.
        celery("learner", "learner.worker", "learner", grace_s=3),
        python("scheduler", "-m", "feedback.scheduler", grace_s=5),
        *([python("scorer", "-m", "learner.scorer", grace_s=3)] if scores else []),
        python("api", "-m", "serve", grace_s=settings.serve.drain_timeout_s + 5),
    ]


def pause_s(quick_ends: int) -> float:
    """How long to wait before the next start, after so many that came to nothing."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(max(0, quick_ends - 1), 10))


class Supervised:
    """A program kept running: started again when it ends, whatever its exit code, after a growing pause."""

    def __init__(self, program: Program, changed: Callable[[], None]) -> None:
        self.program = program
        self.state = ProcessState(program.name)
        self.quick_ends = 0
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it, and keep it running from now on."""
        await self._spawn()
        self._keeping = asyncio.create_task(self._keep(), name=self.program.name)

    async def stop(self) -> None:
        """SIGTERM, then after the program's grace SIGKILL; returns when it has ended."""
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self.program.grace_s)
        except TimeoutError:
            self.kill()
            await process.wait()
        self._note(state="ended", pid=None, exit_code=process.returncode)

    def kill(self) -> None:
        """End it and the children in its process group now."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def last_words(self) -> str:
        """The last line of its log that says something."""
        lines = self.program.log.read_text(errors="replace").splitlines() if self.program.log.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "it left no word")

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            started = time.monotonic()
            exit_code = await self._process.wait()
            settled = time.monotonic() - started >= SETTLED_S
            self.quick_ends = 0 if settled else self.quick_ends + 1
            self._note(state="waiting", pid=None, exit_code=exit_code, restarts=self.state.restarts + 1)
            await self._spawn_again()

    async def _spawn_again(self) -> None:
        """After a pause; and after longer ones while the machine has no room for a process or its log."""
        while True:
            await asyncio.sleep(pause_s(self.quick_ends))
            try:
                await self._spawn()
                return
            except OSError:
                self.quick_ends += 1

    async def _spawn(self) -> None:
        output = os.open(self.program.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *tied(self.program.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.program.environment},
                # A group of its own: Ctrl-C reaches the supervisor alone, which ends all in order. Not a session:
                # Linux may share the processors among sessions (autogroup), and two engines that write then keep the
                # API process from them for tenths of a second.
                process_group=0,
            )
        finally:
            os.close(output)
        self._note(state="running", pid=self._process.pid)

    def _note(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]
        self._changed()
