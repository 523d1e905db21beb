"""Traces by OpenTelemetry, held against a collector that takes what is really sent."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, http_attributes
from opentelemetry.semconv.attributes import error_attributes
from redis import Redis

from feedback import tracing
from feedback.operating_settings import TracingSettings
from feedback.store import Store, iterations
from learner.progress import Progress
from tests.deploy.homes import make_home
from tests.feedback.conftest import migrated_database, migrated_file, postgres, store  # noqa: F401
from tests.feedback.record import add_comparison
from tests.serve.conftest import Tandem, policy_folders, quiet, tandem  # noqa: F401
from tests.serve.redis_server import redis_server
from tests.serve.test_chat import chat
from tests.stack import wait_for
from tests.trace_collector import Collector, Seen

ROOT = Path(__file__).resolve().parent.parent
SECRET = "marzipan"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STANDARD = {
    value
    for names in (gen_ai_attributes, http_attributes, error_attributes)
    for value in vars(names).values()
    if isinstance(value, str)
}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        tracing.configure(TracingSettings(endpoint=collector.url), "test")
        try:
            yield collector
        finally:
            tracing.stop()


def in_trace(seen: Seen) -> bool:
    return seen.trace == TRACE


@pytest.mark.engine
@pytest.mark.parametrize("stream", [False, True])
def test_a_comparison_shows_both_engines_below_the_clients_own_span(
    collector: Collector,
    tandem: Tandem,  # noqa: F811
    stream: bool,
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    body = chat(n=2, stream=stream, max_tokens=8, temperature=0.5, seed=7, user=SECRET)
    body["messages"] = [{"role": "user", "content": f"What is {SECRET}?"}]
    with tandem.client("vote", headers=headers) as client:
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200
        spans = collector.wait_for(in_trace, 3)
        pair = answer.headers["x-request-id"]
    (request,) = [span for span in spans if span.kind == "server"]
    assert request.name == "POST /v1/chat/completions" and request.parent == PARENT
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["tandem.request.id"] == pair
    asked = sorted(
        (span for span in spans if span.kind == "client"), key=lambda span: int(span.attributes["tandem.choice"])
    )
    assert [span.parent for span in asked] == [request.id] * 2 and not any(span.failed for span in spans)
    for choice, span in enumerate(asked):
        said = span.attributes
        assert span.name == "chat tandem" and said["gen_ai.operation.name"] == "chat"
        assert said["gen_ai.request.model"] == "tandem" and said["gen_ai.response.model"].startswith("tandem@v")
        assert (said["gen_ai.request.temperature"], said["gen_ai.request.max_tokens"]) == (0.5, 8)
        assert said["gen_ai.request.seed"] == 7 + choice and said["gen_ai.request.stream"] is stream
        assert 0 < said["gen_ai.usage.output_tokens"] <= 8 and said["gen_ai.usage.input_tokens"] > 0
        assert said["gen_ai.response.finish_reasons"][0] in ("stop", "length")
    own = {name for span in spans for name in span.attributes if not name.startswith("tandem.")}
    assert own <= STANDARD
    assert SECRET.encode() not in collector.raw and b"What is" not in collector.raw


@pytest.mark.engine
def test_what_an_engine_refuses_is_an_error_without_its_words(collector: Collector, tandem: Tandem) -> None:  # noqa: F811
    with tandem.client("chat") as client:
        body = chat(messages=[{"role": "user", "content": SECRET * 5000}])
        assert client.post("/v1/chat/completions", json=body).status_code == 400
    (asked,) = collector.wait_for(lambda span: span.kind == "client")
    assert asked.failed and asked.attributes["error.type"] == "PromptTooLong"
    assert SECRET.encode() not in collector.raw


def test_an_iteration_shows_its_stages_and_which_one_failed(collector: Collector, store: Store) -> None:  # noqa: F811
    iteration = store.write(iterations.start, trigger="operator", seed=0, settings={})
    claimed = store.write(iterations.claim, iteration.id, "test", 60.0, 5)
    assert claimed is not None
    progress = Progress(store, iteration.id, claimed[1])
    with pytest.raises(ValueError, match=SECRET), progress.traced():
        progress.enter("freeze")
        progress.enter("ppo")
        raise ValueError(SECRET)
    spans = {span.name: span for span in collector.wait_for(lambda _: True, 3)}
    whole = spans["iteration"]
    assert [spans[f"iteration {stage}"].parent for stage in ("freeze", "ppo")] == [whole.id] * 2
    assert [spans[name].failed for name in ("iteration", "iteration freeze", "iteration ppo")] == [True, False, True]
    assert {span.attributes["tandem.iteration.id"] for span in spans.values()} == {iteration.id}
    assert SECRET.encode() not in collector.raw


def test_the_worker_shows_how_many_votes_it_counted_and_the_requests_that_they_came_with(tmp_path: Path) -> None:
    from feedback.settings import load_settings

    make_home(load_settings(home=tmp_path / "home"), versions=1).close()
    with Collector() as collector:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("TANDEM_", "OTEL_"))}
        environment |= {"TANDEM_HOME": str(tmp_path / "home"), "TANDEM_TRACING__ENDPOINT": collector.url}
        count = f"from feedback.worker import count_votes; print(count_votes(['00-{TRACE}-{PARENT}-01']))"
        subprocess.run([sys.executable, "-c", count], check=True, env=environment, cwd=ROOT)
        (span,) = collector.wait_for(lambda span: span.name == "count votes")
    assert span.attributes["tandem.votes.counted"] == 2 and span.process == "votes" and not span.failed
    assert span.links == [PARENT] and span.trace != TRACE


def test_a_vote_is_announced_with_where_it_was_cast(collector: Collector, quiet: Tandem) -> None:  # noqa: F811
    """What the worker gets in its task is the span of the vote's own request."""
    pair = add_comparison(quiet.store)
    path = f"/v1/comparisons/{pair}/vote"
    with redis_server(quiet.settings.home), quiet.client() as client:
        wait_for(lambda: quiet.gateway._vote_hints is not None, 30, "the queue's client")
        vote = {"objective": "helpful", "preferred": 0, "strength": 1}
        assert client.put(path, json=vote).status_code == 200
        redis = Redis(unix_socket_path=str(quiet.settings.run_dir / "redis.sock"))
        task = orjson.loads(redis.blpop("votes", timeout=30)[1])
        redis.close()
    (request,) = collector.wait_for(lambda span: span.name.startswith("PUT"))
    (links,) = orjson.loads(base64.b64decode(task["body"]))[0]
    assert [link.split("-")[1:3] for link in links] == [[request.trace, request.id]]


def test_nothing_of_it_is_imported_while_it_is_off() -> None:
    look = (
        "import sys, serve.app, feedback.worker; from feedback import tracing\n"
        "with tracing.current('x') as span: span.set({}); assert span.headers() == {}\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", look], check=True, cwd=ROOT)


def test_a_client_cannot_have_a_trace_kept_that_is_not_drawn() -> None:
    with Collector() as collector:
        tracing.configure(TracingSettings(endpoint=collector.url, sample_share=0.0), "test")
        with tracing.current("request", "server", carrier={"traceparent": f"00-{TRACE}-{PARENT}-01"}) as span:
            assert span.headers()["traceparent"].endswith("-00")
        tracing.stop()
        assert collector.spans == []
