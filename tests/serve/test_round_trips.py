"""How often a request waits for a Postgres, which may be far away."""

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from deploy import record_looks
from feedback.store import Store, counting
from tests.feedback.record import add_comparison, sample
from tests.postgres_server import BIN, PostgresServer
from tests.serve.conftest import Tandem, without_engines

pytestmark = pytest.mark.skipif(BIN is None, reason="no Postgres on this machine (initdb not found)")

# Meanwhile the API asks for what serves, and says that it does, by itself.
TRIES = 40


class Line:
    """A way to a server, by which it is seen how often somebody waits for its answer."""

    def __init__(self, server: Path) -> None:
        self.waits = 0
        self._server = server
        self._entrance = socket.create_server(("127.0.0.1", 0))
        self.port = self._entrance.getsockname()[1]
        threading.Thread(target=self._let_in, daemon=True).start()

    def _let_in(self) -> None:
        while True:
            try:
                client = self._entrance.accept()[0]
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._server))
            asks = threading.Event()
            for way in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._carry, args=(*way, asks), daemon=True).start()

    def _carry(self, here: socket.socket, there: socket.socket, is_asking: bool, asks: threading.Event) -> None:
        with here, there:
            while said := here.recv(1 << 16):
                if not is_asking:
                    asks.clear()
                elif not asks.is_set():
                    asks.set()
                    self.waits += 1
                try:
                    there.sendall(said)
                except OSError:
                    return

    def close(self) -> None:
        self._entrance.shutdown(socket.SHUT_RDWR)
        self._entrance.close()


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Tandem, Line]]:
    """A Tandem without engines, and its line to Postgres, beside which the tests look into the record."""
    with PostgresServer() as server:
        line = Line(server.folder / ".s.PGSQL.5432")
        url = f"postgresql+psycopg://tandem@127.0.0.1:{line.port}/postgres"
        with without_engines(tmp_path_factory.mktemp("far") / "home", database_url=url) as tandem:
            near = Store(server.url)
            yield replace(tandem, store=near), line
            near.close()
        line.close()


@pytest.mark.parametrize(
    ("path", "waits"),
    [("policies", 2), ("iterations", 1), ("ratings", 1), ("audit", 1), ("usage", 5)],
)
def test_what_a_page_asks_for(far: tuple[Tandem, Line], path: str, waits: int) -> None:
    tandem, line = far
    with tandem.client("operate") as client:
        assert least(line, lambda: client.get(f"/v1/{path}"), waits) <= waits


def test_what_votes_and_operators_change(far: tuple[Tandem, Line]) -> None:
    tandem, line = far
    pair = add_comparison(tandem.store, sample("a reply"), sample("b", version=1), key_id="import")
    strengths = iter([1, 2, 3, 4] * TRIES)

    def change() -> httpx.Response:
        vote = {"objective": "helpful", "preferred": 0, "strength": next(strengths)}
        return client.put(f"/v1/comparisons/{pair}/vote", json=vote)

    def change_counted() -> httpx.Response:
        tandem.store.write(counting.count_accepted)
        return change()

    with tandem.client("operate") as client:
        change().raise_for_status()
        assert least(line, change, 10) <= 10
        assert least(line, change_counted, 15) <= 15
        assert least(line, lambda: client.put("/v1/traffic", json={"challenger": None}), 16) <= 16


def test_the_doctor_looks_by_one_connection(far: tuple[Tandem, Line]) -> None:
    tandem, line = far
    line.waits = 0
    found = list(record_looks.record(tandem.settings))
    assert [finding.what for finding in found][:2] == ["record", "audit"]
    assert line.waits <= 30


def least(line: Line, ask: Callable[[], httpx.Response], wanted: int) -> int:
    """How often the request waits, at least; it is asked again until that is as `wanted`."""
    found = []
    for _ in range(TRIES):
        line.waits = 0
        ask().raise_for_status()
        found.append(line.waits)
        if found[-1] <= wanted:
            break
    return min(found)
