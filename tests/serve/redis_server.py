"""A private Redis for a test, as `tandem up` starts it."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from deploy.redis_server import find_redis_server, redis_command
from tests.waiting import wait_for


def answers(socket: Path) -> bool:
    with contextlib.suppress(RedisError):
        return bool(Redis(unix_socket_path=str(socket)).ping())
    return False


@contextlib.contextmanager
def redis_server(home: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Its URL and its process."""
    (home / "run").mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(redis_command(find_redis_server(), home), stdout=subprocess.DEVNULL)
    socket = home / "run" / "redis.sock"
    try:
        wait_for(lambda: answers(socket), 60, "Redis")
        yield f"redis+socket://{socket}", process
    finally:
        process.kill()
        process.wait(timeout=60)
