"""A private Postgres on a unix socket, for tests and benchmarks: started, killed, started again on the same data. It
ends with the process that started it.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from feedback.lifeline import die_with_parent

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
BIN = next(
    (
        path.parent
        for path in [Path(shutil.which("initdb") or "/-"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
        if path.exists()
    ),
    None,
)
# A folder in memory, of which a container often has no more than 64 MiB, and what a server may come to take of it.
MEMORY, ROOM = Path("/dev/shm"), 2**31


class PostgresServer:
    """A server whose data and socket are in a temporary folder. `with` starts it, ends it and removes the folder.

    `durable` has it flush what it commits to the disk, as it does where nobody told it otherwise. One that is not lies
    in memory where there is room: to make and to drop a database there takes a third to a tenth of the CPU.
    """

    def __init__(self, *, durable: bool = False) -> None:
        assert BIN is not None, "no Postgres on this machine (initdb not found)"
        # Not below a test's own folder: pytest takes the rights of others away there whenever it starts.
        in_memory = not durable and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
        folder = self.folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=MEMORY if in_memory else None))
        self.url = f"postgresql+psycopg://tandem@/postgres?host={folder}"
        # Postgres refuses to run as root; there it runs as nobody, who must be let in.
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(folder, self._user)
        data = folder / "data"
        subprocess.run(
            [BIN / "initdb", "-D", data, "-U", "tandem", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True, user=self._user, cwd="/", **QUIET,
        )  # fmt: skip
        options = ["listen_addresses=", "max_connections=200", *([] if durable else ["fsync=off"])]
        self._command = [BIN / "postgres", "-D", data, "-k", folder, *(part for one in options for part in ("-c", one))]
        self._log = folder / "log"
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "PostgresServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        # At once: nobody will read what it would write to the disk first.
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    @property
    def process(self) -> psutil.Process:
        """The server's first process; the others are its children."""
        assert self._server is not None
        return psutil.Process(self._server.pid)

    def start(self) -> None:
        """Returns when it answers."""
        self._server = subprocess.Popen(
            self._command,
            user=self._user,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=self._log.open("ab"),
            # By itself, as whoever else it runs: `feedback.lifeline.tied` needs rights on the environment.
            preexec_fn=partial(die_with_parent, signal.SIGQUIT, parent=os.getpid()),  # noqa: PLW1509
        )
        self.wait_until_it_answers()

    def kill(self) -> None:
        """SIGKILL to every process of the server at once."""
        first = self.process
        # Stopped before its children are looked for: it cannot start others meanwhile.
        first.suspend()
        children = first.children(recursive=True)
        for process in (*children, first):
            process.kill()
        assert self._server is not None
        self._server.wait(timeout=60)
        # The next server refuses to start while one of them still holds the shared memory.
        deadline = time.monotonic() + 30
        while any(_lives(child) for child in children):
            assert time.monotonic() < deadline, "a process of Postgres outlived SIGKILL"
            time.sleep(0.01)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Without waiting for clients that are still connected."""
        assert self._server is not None
        if self._server.poll() is None:
            self._server.send_signal(how)
            self._server.wait(timeout=60)

    def new_database(self, like: str = "template1", *options: str) -> str:
        """The URL of an empty database, or of a copy of the one of that name, to which nobody may be connected.

        `options` are those of CREATE DATABASE.
        """
        name = f"t{time.time_ns()}"
        with self._administrating() as connection:
            if connection.dialect.server_version_info >= (15,):
                # As older ones do without being told: half the work where nothing is flushed.
                options = ("STRATEGY FILE_COPY", *options)
            connection.execute(text(" ".join((f"CREATE DATABASE {name} TEMPLATE {like}", *options))))
        return self.url.replace("/postgres?", f"/{name}?")

    def drop(self, url: str) -> None:
        """Whoever is still connected loses the connection. Of hundreds the files would be removed at the end at once,
        which takes minutes on a busy machine."""
        with self._administrating() as connection:
            connection.execute(text(f"DROP DATABASE {make_url(url).database} WITH (FORCE)"))

    @contextmanager
    def _administrating(self) -> Iterator[Connection]:
        admin = create_engine(self.url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            yield connection
        admin.dispose()

    def wait_until_it_answers(self) -> None:
        engine = create_engine(self.url)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self._server is not None
            assert self._server.poll() is None, f"Postgres ended while starting: {self._log.read_text()[-2000:]}"
            try:
                with engine.connect():
                    engine.dispose()
                    return
            except OperationalError:
                time.sleep(0.05)
        raise TimeoutError("Postgres did not come up")


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
