"""A store on each database: the same tests run on SQLite and on a real Postgres."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from feedback.store import Store

POSTGRES_BIN = next(
    (
        path.parent
        for path in [Path(shutil.which("initdb") or "/-"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
        if path.exists()
    ),
    None,
)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A private Postgres on a unix socket, ended with the session."""
    if POSTGRES_BIN is None:
        pytest.skip("no Postgres on this machine (initdb not found)")
    folder = tmp_path_factory.mktemp("postgres")
    # Postgres refuses to run as root; there it runs as nobody, who must be let in.
    user = "nobody" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
        for parent in [folder, *folder.parents][:4]:
            if parent.owner() in ("root", user) and str(parent) != "/tmp":
                parent.chmod(0o755)
    data, quiet = folder / "data", {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(
        [POSTGRES_BIN / "initdb", "-D", data, "-U", "tandem", "-A", "trust", "--no-sync"],
        check=True, user=user, cwd="/", **quiet,
    )  # fmt: skip
    server = subprocess.Popen(
        [POSTGRES_BIN / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
        user=user, cwd="/", **quiet,
    )  # fmt: skip
    url = f"postgresql+psycopg://tandem@/postgres?host={folder}"
    try:
        _wait_for(url, server)
        yield url
    finally:
        # Fast: without waiting for clients that are still connected.
        server.send_signal(signal.SIGINT)
        server.wait(timeout=30)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty, migrated record."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'record.db'}"
    else:
        server_url = request.getfixturevalue("postgres_url")
        name = f"t{time.time_ns()}"
        admin = create_engine(server_url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        admin.dispose()
        url = server_url.replace("/postgres?", f"/{name}?")
    store = Store(url)
    store.migrate()
    yield store
    store.close()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    engine = create_engine(url)
    for _ in range(200):
        assert server.poll() is None, "Postgres ended while starting"
        try:
            with engine.connect():
                engine.dispose()
                return
        except OperationalError:
            time.sleep(0.1)
    raise TimeoutError("Postgres did not come up")
