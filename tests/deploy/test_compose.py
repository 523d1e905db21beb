"""The secrets of the compose deployment: made once, closed, and enough for what the queue does on a real Redis."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from deploy.compose.make_secrets import make_secrets
from deploy.redis_server import find_redis_server
from deploy.supervisor import why_silent
from feedback.lifeline import tied
from feedback.queue import COUNT_VOTES, make_celery, send
from feedback.settings import load_settings
from tests.ports import free_port
from tests.waiting import wait_for


def variables(folder: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (folder / "tandem.env").read_text().splitlines())


def test_they_are_made_once_and_closed(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    strict = os.umask(0o077)
    try:
        assert make_secrets(folder) is True
    finally:
        os.umask(strict)
    assert folder.stat().st_mode & 0o777 == 0o700
    for mounted in ("postgres_password", "redis.acl"):
        assert (folder / mounted).stat().st_mode & 0o044 == 0o044, "the containers' users are others"
    before = {path.name: path.read_text() for path in folder.iterdir()}
    assert make_secrets(folder) is False
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    password = before["postgres_password"].strip()
    assert len(password) == 64
    assert f":{password}@postgres:5432/" in variables(folder)["TANDEM_DATABASE_URL"]
    other = tmp_path / "other"
    make_secrets(other)
    assert (other / "postgres_password").read_text() != before["postgres_password"]


@pytest.fixture
def closed_redis(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A Redis with the user list of the deployment: the URL that a process is given, and the port."""
    make_secrets(tmp_path / "secrets")
    port = free_port()
    server = subprocess.Popen(
        tied([str(find_redis_server()), "--port", str(port), "--bind", "127.0.0.1", "--save", "",
              "--dir", str(tmp_path), "--aclfile", str(tmp_path / "secrets" / "redis.acl")]),
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: listens(port), 60, "Redis")
        yield variables(tmp_path / "secrets")["TANDEM_REDIS_URL"].replace("@redis:6379", f"@127.0.0.1:{port}"), port
    finally:
        server.terminate()
        server.wait(timeout=60)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_nobody_comes_in_without_the_password(closed_redis: tuple[str, int]) -> None:
    url, port = closed_redis
    assert why_silent(url) is None
    assert "authenticated" in (why_silent(f"redis://127.0.0.1:{port}/0") or "")
    assert "invalid username-password pair" in (why_silent(f"redis://tandem:wrong@127.0.0.1:{port}/0") or "")


@pytest.mark.parametrize(
    "command", [["CONFIG", "GET", "*"], ["FLUSHALL"], ["SHUTDOWN"], ["ACL", "LIST"], ["DEBUG", "SLEEP", "0"],
                ["MODULE", "LIST"], ["REPLICAOF", "NO", "ONE"], ["KEYS", "*"]],
    ids=" ".join,
)  # fmt: skip
def test_who_has_it_changes_and_reads_nothing_of_the_server(closed_redis: tuple[str, int], command: list[str]) -> None:
    with redis.Redis.from_url(closed_redis[0]) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)


def test_the_queue_works_with_those_rights(
    closed_redis: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent, taken, not acknowledged, handed out again, acknowledged: all that a worker asks of Redis."""
    monkeypatch.setattr("feedback.queue.SOCKET_TIMEOUT_S", 60.0)
    settings = load_settings(home=tmp_path / "home").model_copy(update={"redis_url": closed_redis[0]})
    celery = make_celery(settings)
    assert send(celery, COUNT_VOTES)
    with celery.connection_for_read() as connection, connection.SimpleQueue("votes") as queue:
        first = queue.get(timeout=60)
        first.requeue()
        again = queue.get(timeout=60)
        assert again.headers["task"] == COUNT_VOTES
        again.ack()
        channel = queue.consumer.channel
        channel.qos.restore_visible()
        with pytest.raises(queue.Empty):
            queue.get(timeout=0.2)
    celery.close()
