"""The record behind PgBouncer, which gives each transaction whichever connection is free."""

import pwd
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.orm import Session

from deploy.backup import backup
from feedback.errors import Conflict, RecordUnavailable
from feedback.settings import load_settings
from feedback.store import Store, keys, policies
from tests.feedback.record import add_comparison
from tests.ports import free_port
from tests.postgres_server import PostgresServer
from tests.waiting import wait_for

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
# What is set on the one connection everybody has.
CLIENTS, CONNECTIONS = 6, 1
# From the fifth time on a statement is prepared, where that is of use.
TIMES = 10

pytestmark = pytest.mark.skipif(
    PGBOUNCER is None, reason="no PgBouncer on this machine (Debian: apt install pgbouncer)"
)


@pytest.fixture
def pooled(postgres: PostgresServer, migrated_database: str) -> Iterator[str]:
    """The URL of an empty record, by way of a pooler."""
    assert PGBOUNCER is not None
    direct, port = postgres.new_database(migrated_database), free_port()
    folder = postgres.folder / "pooler"
    folder.mkdir()
    (folder / "users").write_text('"tandem" ""\n')
    (folder / "ini").write_text(
        f"[databases]\n* = host={postgres.folder}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"unix_socket_dir =\nauth_type = trust\nauth_file = {folder / 'users'}\npool_mode = transaction\n"
        f"default_pool_size = {CONNECTIONS}\n"
    )
    # It refuses to run as root, as Postgres does.
    user = pwd.getpwuid(postgres.folder.stat().st_uid).pw_name
    process = subprocess.Popen([PGBOUNCER, "--quiet", folder / "ini"], user=user, stderr=subprocess.DEVNULL)
    url = f"postgresql+psycopg://tandem@127.0.0.1:{port}/{make_url(direct).database}"
    try:
        wait_for(lambda: _answers(url), 30, "PgBouncer to answer")
        yield url
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)
        postgres.drop(direct)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url.replace("+psycopg", "")).close()
    except psycopg.OperationalError:
        return False
    return True


def test_transactions_may_be_anybodys_connections(pooled: str) -> None:
    flushing, other = Store(pooled), Store(pooled, flushes=False)

    def work(store: Store) -> None:
        for _ in range(TIMES):
            add_comparison(store, key_id="import")
            store.read(policies.candidates)
            store.read_once(policies.serving)
            store.write_swiftly(_send, _never)
            store.write(keys.create, "chat")

    with ThreadPoolExecutor(CLIENTS) as clients:
        for done in [clients.submit(work, store) for store in (flushing, other) * (CLIENTS // 2)]:
            done.result()
    assert len(flushing.read(keys.list_all)) == CLIENTS * TIMES
    assert _synchronous(flushing) == "on", "what one need not flush another one has to"
    flushing.close()
    other.close()


def test_it_is_not_dumped_through_a_pooler(pooled: str, tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, database_url=pooled)
    with pytest.raises(Conflict, match="leads to a pooler"):
        backup(settings, tmp_path / "backup.tar")
    away = Store(pooled.replace("127.0.0.1", "127.0.0.2"))
    with pytest.raises(RecordUnavailable):
        away.is_behind_pooler()
    away.close()


def _send(session: Session) -> None:
    for _ in range(2):
        session.execute(text("UPDATE keys SET name = :name WHERE id = :name"), {"name": "nobody"})


def _never(_: object) -> None:
    raise AssertionError("this is no SQLite")


def _synchronous(store: Store) -> str:
    return str(store.read(lambda session: session.execute(text("SHOW synchronous_commit")).scalar_one()))
