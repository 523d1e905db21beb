"""Traces of requests by OpenTelemetry, held against a collector that takes what is really sent."""

import base64
from collections.abc import Iterator

import orjson
import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, http_attributes
from opentelemetry.semconv.attributes import error_attributes
from redis import Redis

from tests.feedback.record import add_comparison
from tests.serve.chats import chat
from tests.serve.conftest import Tandem
from tests.serve.redis_server import redis_server
from tests.trace_collector import PARENT, TRACE, Collector, Seen, collecting
from tests.waiting import wait_for

SECRET = "marzipan"
STANDARD = {
    value
    for names in (gen_ai_attributes, http_attributes, error_attributes)
    for value in vars(names).values()
    if isinstance(value, str)
}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def in_trace(seen: Seen) -> bool:
    return seen.trace == TRACE


@pytest.mark.engine
@pytest.mark.parametrize("stream", [False, True])
def test_a_comparison_shows_both_engines_below_the_clients_own_span(
    collector: Collector, tandem: Tandem, stream: bool
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
def test_what_an_engine_refuses_is_an_error_without_its_words(collector: Collector, tandem: Tandem) -> None:
    with tandem.client("chat") as client:
        body = chat(messages=[{"role": "user", "content": SECRET * 5000}])
        assert client.post("/v1/chat/completions", json=body).status_code == 400
    (asked,) = collector.wait_for(lambda span: span.kind == "client")
    assert asked.failed and asked.attributes["error.type"] == "PromptTooLong"
    assert SECRET.encode() not in collector.raw


def test_a_vote_is_announced_with_where_it_was_cast(collector: Collector, quiet: Tandem) -> None:
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
