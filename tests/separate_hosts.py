"""Hosts of their own for tests: Linux network namespaces with an address each, wired to one that has the record and the
queue. A wire can be cut and mended.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.postgres_server import PostgresServer
from tests.vote_stack import ROOT, redis_server

HUB = "10.213.0.1"
API_PORT, POSTGRES_PORT, REDIS_PORT = 8080, 5432, 6379


def why_not() -> str | None:
    """Why there can be no such hosts on this machine, or None."""
    if shutil.which("ip") is None or shutil.which("setpriv") is None:
        return "no `ip` or `setpriv` (Debian: apt install iproute2 util-linux)"
    tried = subprocess.run(["ip", "netns", "add", f"tandem-{os.getpid()}-may-i"], capture_output=True, check=False)
    if tried.returncode != 0:
        return "network namespaces need root, or are not allowed here"
    ip("netns", "del", f"tandem-{os.getpid()}-may-i")
    return None


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Host:
    """Number `n`: reached by clients at `address`, wired to the hub by a line of its own."""

    def __init__(self, network: str, hub: str, number: int) -> None:
        self.name = f"{network}-h{number}"
        self.address = f"10.213.{100 + number}.2"
        self._wire = f"t{os.getpid() % 100000}w{number}"
        self._hub = hub
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "set", "lo", "up")
        self._connect(f"{self._wire}c", None, f"10.213.{100 + number}")
        self._connect(self._wire, hub, f"10.213.{number}")
        ip("-n", self.name, "route", "add", f"{HUB}/32", "via", f"10.213.{number}.1")

    def _connect(self, wire: str, to: str | None, network: str) -> None:
        """A cable between this host (.2) and another one, or this machine (.1)."""
        ip("link", "add", wire, "type", "veth", "peer", "name", "wire" if to else "clients", "netns", self.name)
        if to:
            ip("link", "set", wire, "netns", to)
        here = ["-n", to] if to else []
        for where, name, address in ((here, wire, 1), (["-n", self.name], "wire" if to else "clients", 2)):
            ip(*where, "address", "add", f"{network}.{address}/24", "dev", name)
            ip(*where, "link", "set", name, "up")

    def cut(self) -> None:
        """Pull the cable to the record and the queue; clients reach the host as before."""
        ip("-n", self._hub, "link", "set", self._wire, "down")

    def mend(self) -> None:
        ip("-n", self._hub, "link", "set", self._wire, "up")

    def runs(self, pid: int) -> bool:
        """Whether a process is one of this host's."""
        mine = Path("/run/netns", self.name).stat().st_ino
        try:
            return Path(f"/proc/{pid}/ns/net").stat().st_ino == mine
        except FileNotFoundError:
            return False


class PostgresOnTheHub(PostgresServer):
    """Takes connections from the hosts."""

    def __init__(self, hub: str) -> None:
        super().__init__(durable=True)
        with (self.folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.213.0.0/16 trust\n")
        nobody = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
        self._command = ["ip", "netns", "exec", hub, *nobody, *self._command, "-c", f"listen_addresses={HUB}"]
        self._user = None

    def url_on_the_network(self, url: str) -> str:
        return url.replace("@/", f"@{HUB}:{POSTGRES_PORT}/").partition("?")[0]


class Network:
    """A hub with Postgres and Redis, and two hosts."""

    def __init__(self, folder: Path, hub: str, hosts: list[Host], postgres: PostgresOnTheHub) -> None:
        self.folder, self.hub, self.hosts, self.postgres = folder, hub, hosts, postgres
        self.database_url = postgres.new_database()
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, host: Host, home: Path, *command: str, **settings: str) -> subprocess.Popen[bytes]:
        """A process of ours on a host; it ends with the network."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TANDEM_", "REDIS_"))}
        environment = {
            "TANDEM_HOME": str(home),
            "TANDEM_DATABASE_URL": self.postgres.url_on_the_network(self.database_url),
            "TANDEM_REDIS_URL": f"redis://{HUB}:{REDIS_PORT}/0",
            "TANDEM_SERVE__HOST": "0.0.0.0",
            "TANDEM_SERVE__PORT": str(API_PORT),
            "TANDEM_LOOP__LEASE_TTL_S": "5",
            "TANDEM_LOOP__AUTOMATIC": "false",
            "TANDEM_FEEDBACK__QUARANTINE_OUTLIERS": "false",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }
        return self._run(host.name, [sys.executable, *command], inherited | environment | settings)

    def start_redis(self) -> None:
        options = ["--bind", HUB, "--port", str(REDIS_PORT), "--protected-mode", "no", "--save", ""]
        self._run(self.hub, [redis_server(), *options], dict(os.environ))

    def _run(self, where: str, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        log = (self.folder / "processes.log").open("ab")
        with log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", where, *command],
                env=environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def end(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait(timeout=30)


@contextmanager
def network(folder: Path) -> Iterator[Network]:
    """Two hosts with nothing on them yet, a hub with a running Postgres and Redis; all gone afterwards."""
    name = f"tandem-{os.getpid()}"
    hub, made, postgres, wired = f"{name}-hub", list[Host](), None, None
    try:
        ip("netns", "add", hub)
        ip("-n", hub, "link", "set", "lo", "up")
        ip("-n", hub, "address", "add", f"{HUB}/32", "dev", "lo")
        made = [Host(name, hub, number) for number in (1, 2)]
        postgres = PostgresOnTheHub(hub)
        postgres.start()
        wired = Network(Path(tempfile.mkdtemp(dir=folder)), hub, made, postgres)
        wired.start_redis()
        yield wired
    finally:
        if wired is not None:
            wired.end()
        if postgres is not None:
            postgres.__exit__()
        for number in (1, 2):
            subprocess.run(["ip", "netns", "del", f"{name}-h{number}"], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", hub], capture_output=True, check=False)
