"""Traces by OpenTelemetry of learner and worker, held against a collector that takes what is really sent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from feedback import tracing
from feedback.settings import load_settings
from feedback.store import iterations
from learner.progress import Progress
from tests.deploy.homes import make_home
from tests.records import empty_record
from tests.trace_collector import PARENT, TRACE, Collector, collecting

ROOT = Path(__file__).resolve().parent.parent
SECRET = "marzipan"


def test_an_iteration_shows_its_stages_and_which_one_failed(tmp_path: Path) -> None:
    store = empty_record(tmp_path / "record.db")
    iteration = store.write(iterations.start, trigger="operator", seed=0, settings={})
    claimed = store.write(iterations.claim, iteration.id, "test", 60.0, 5)
    assert claimed is not None
    progress = Progress(store, iteration.id, claimed[1])
    with collecting() as collector:
        with pytest.raises(ValueError, match=SECRET), progress.traced():
            progress.enter("freeze")
            progress.enter("ppo")
            raise ValueError(SECRET)
        spans = {span.name: span for span in collector.wait_for(lambda _: True, 3)}
    store.close()
    whole = spans["iteration"]
    assert [spans[f"iteration {stage}"].parent for stage in ("freeze", "ppo")] == [whole.id] * 2
    assert [spans[name].failed for name in ("iteration", "iteration freeze", "iteration ppo")] == [True, False, True]
    assert {span.attributes["tandem.iteration.id"] for span in spans.values()} == {iteration.id}
    assert SECRET.encode() not in collector.raw


def test_the_worker_shows_how_many_votes_it_counted_and_the_requests_that_they_came_with(tmp_path: Path) -> None:
    make_home(load_settings(home=tmp_path / "home"), versions=1).close()
    with Collector() as collector:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("TANDEM_", "OTEL_"))}
        environment |= {"TANDEM_HOME": str(tmp_path / "home"), "TANDEM_TRACING__ENDPOINT": collector.url}
        # Of a proxy, which nothing that stays on the machine goes through.
        environment |= {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "NO_PROXY": "none"}
        count = f"from feedback.worker import count_votes; print(count_votes(['00-{TRACE}-{PARENT}-01']))"
        subprocess.run([sys.executable, "-c", count], check=True, env=environment, cwd=ROOT)
        (span,) = collector.wait_for(lambda span: span.name == "count votes")
    assert span.attributes["tandem.votes.counted"] == 2 and span.process == "votes" and not span.failed
    assert span.links == [PARENT] and span.trace != TRACE


def test_nothing_of_it_is_imported_while_it_is_off() -> None:
    look = (
        "import sys, serve.app, feedback.worker; from feedback import tracing\n"
        "with tracing.current('x') as span: span.set({}); assert span.headers() == {}\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", look], check=True, cwd=ROOT)


def test_a_client_cannot_have_a_trace_kept_that_is_not_drawn() -> None:
    with collecting(sample_share=0.0) as collector:
        with tracing.current("request", "server", carrier={"traceparent": f"00-{TRACE}-{PARENT}-01"}) as span:
            assert span.headers()["traceparent"].endswith("-00")
        tracing.stop()
        assert collector.spans == []
