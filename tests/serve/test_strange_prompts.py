"""Strange prompts are refused, with real engines, the scorer as its own process and a trained gate on disk."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from feedback.learning_settings import RejectionSettings
from feedback.sandbox.world import held_out_prompts, training_prompts
from feedback.schema import Comparison, Policy
from learner.policy import load_policy
from learner.strange_prompts import Prompts, save_strange_prompts, train_strange_prompts
from serve.strange_prompts import StrangePrompts
from tests.serve.api_process import promote
from tests.serve.chats import chat, events, sample_of
from tests.serve.conftest import STARTING_POLICY, Tandem
from tests.serve.running_scorer import running_scorer

pytestmark = pytest.mark.engine

ODD = [{"role": "user", "content": "SELECT * FROM users WHERE 1=1; }}}]]])))>>> qzx vvk"}]


def gate(tandem: Tandem, when_silent: str, timeout_s: float = 60.0) -> StrangePrompts:
    serve = tandem.settings.serve.model_copy(
        update={"reject_strange_prompts": when_silent, "rejection_timeout_s": timeout_s}
    )
    return StrangePrompts(tandem.gateway.scorer, serve)


@pytest.fixture(scope="module")
def guarded(tandem: Tandem) -> Iterator[Tandem]:
    """v2 serves, its iteration has left a gate, the scorer runs, and strange prompts are refused."""
    folder = tandem.settings.home / "iterations" / "itr_2" / "strange_prompts"
    pools = [
        [prompt.text for prompt in of if prompt.harmful is harmful]
        for of in (training_prompts(), held_out_prompts())
        for harmful in (False, True)
    ]
    trained, _ = train_strange_prompts(load_policy(STARTING_POLICY, "cpu"), Prompts(*pools), RejectionSettings(), 256)
    digest = save_strange_prompts(trained, folder)

    def note(session: Any) -> None:
        policy = session.get(Policy, 2)
        policy.evidence = policy.evidence | {"strange_prompts": {"sha256": digest}}

    tandem.store.write(note)
    with running_scorer(tandem.settings, TANDEM_SERVE__REJECT_STRANGE_PROMPTS="open"):
        # Whatever people of other tests have voted.
        promoted = promote(tandem, "v2", force=True)
        assert promoted.status_code == 200, promoted.text
        before, tandem.gateway.strange_prompts = tandem.gateway.strange_prompts, gate(tandem, "open")
        yield tandem
        tandem.gateway.strange_prompts = before
        promote(tandem, "v0")


def test_an_ordinary_prompt_is_answered_as_ever(guarded: Tandem) -> None:
    with guarded.client("chat") as client:
        answer = client.post("/v1/chat/completions", json=chat())
    assert answer.json()["system_fingerprint"] == "v2"
    (row,) = sample_of(guarded.store, answer.headers["x-request-id"])
    assert row.status == "complete"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 2])
def test_a_strange_one_is_refused_in_openais_form_and_recorded_as_refused(
    guarded: Tandem, stream: bool, n: int
) -> None:
    body = chat(messages=ODD, stream=stream, n=n)
    if stream:
        body["stream_options"] = {"include_usage": True}
    with guarded.client("vote") as client:
        answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    expected = guarded.settings.serve.rejection_reply
    if stream:
        *chunks, last = events(answer.text)
        said = [""] * n
        for chunk in chunks:
            for choice in chunk["choices"]:
                said[choice["index"]] += choice["delta"].get("content", "")
        reasons = [
            choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]
        ]
        usage, whole = last["usage"], chunks[0]
    else:
        whole = answer.json()
        said = [choice["message"]["content"] for choice in whole["choices"]]
        reasons = [choice["finish_reason"] for choice in whole["choices"]]
        usage = whole["usage"]
    assert (said, reasons) == ([expected] * n, ["content_filter"] * n)
    assert "system_fingerprint" not in whole and "comparison_id" not in whole
    assert usage == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    rows = sample_of(guarded.store, answer.headers["x-request-id"])
    assert len(rows) == n
    for row in rows:
        assert (row.status, row.version_first, row.sampling["refused_by"]) == ("refused", None, "itr_2")
    assert all(row.sampling["strangeness"] > 0 and row.text == expected for row in rows)
    ids = [row.id for row in rows]
    found = guarded.store.read(lambda session: session.query(Comparison).filter(Comparison.sample_0.in_(ids)).all())
    assert found == []


def test_without_a_scorer_it_passes_or_is_refused_as_set(guarded: Tandem) -> None:
    def look(when_silent: str) -> Any:
        return asyncio.run(gate(guarded, when_silent, timeout_s=1e-9).look(2, ODD))

    assert look("open") is None
    assert (look("closed").iteration, look("closed").strangeness) == ("itr_2", None)
    assert look("off") is None


def test_a_version_without_a_gate_refuses_nothing(guarded: Tandem) -> None:
    closed = gate(guarded, "closed")
    assert asyncio.run(closed.look(0, ODD)) is None
    assert asyncio.run(closed.look(1, ODD)) is None
    assert asyncio.run(closed.look(2, ODD)) is not None


def test_where_it_is_off_nobody_is_asked(guarded: Tandem) -> None:
    assert asyncio.run(gate(guarded, "off").look(2, ODD)) is None
