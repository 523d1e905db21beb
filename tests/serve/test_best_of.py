"""Best of k with real engines, the scorer as its own process and a preference model on disk."""

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from feedback.schema import Comparison, Policy, Sample
from feedback.scoring import scorer_socket
from feedback.settings import ServeSettings
from learner.policy import load_policy
from learner.preference_model import PreferenceShape, new_preference_model, save_preference_model
from serve.chat.rate_limits import RateLimits
from serve.record import Record
from serve.scorer import Scorer
from tests.serve.api_process import promote
from tests.serve.chats import chat, events, sample_of, text_of
from tests.serve.conftest import READY_TIMEOUT_S, STARTING_POLICY, Tandem
from tests.serve.running_scorer import running_scorer
from tests.serve.test_chat import leave_in_the_middle

pytestmark = pytest.mark.engine

K, SEED = 4, 40


@pytest.fixture(scope="module")
def judged(tandem: Tandem) -> Iterator[Tandem]:
    """v1 serves, its iteration has left a preference model, and the scorer runs."""
    folder = tandem.settings.home / "iterations" / "itr_1" / "preference"
    folder.parent.mkdir(parents=True)
    start = load_policy(STARTING_POLICY, "cpu")
    # Random heads: what they like is as good as anything to see whether it is given.
    save_preference_model(new_preference_model(start.model, PreferenceShape(("helpful",)), 3), folder)
    digest = hashlib.sha256((folder / "preference.safetensors").read_bytes()).hexdigest()

    def note(session: Any) -> None:
        policy = session.get(Policy, 1)
        preference = policy.evidence.get("preference", {}) | {"sha256": digest}
        policy.evidence = policy.evidence | {"preference": preference}

    tandem.store.write(note)
    with running_scorer(tandem.settings):
        promote(tandem, "v0")
        assert promote(tandem, "v1").status_code == 200
        yield tandem
        promote(tandem, "v0")


def scores(tandem: Tandem, replies: list[str], ended: list[bool]) -> list[float]:
    async def ask() -> list[float]:
        scorer = Scorer(tandem.settings.run_dir, Record(tandem.store), READY_TIMEOUT_S)
        return await scorer.scores(1, chat()["messages"], replies, ended)

    return asyncio.run(ask())


def best_alone(tandem: Tandem, first_seed: int) -> tuple[int, str]:
    """The seed and the text of the reply that wins among K written one by one."""
    with tandem.client("chat") as client:
        answers = [client.post("/v1/chat/completions", json=chat(seed=first_seed + at)).json() for at in range(K)]
    choices = [answer["choices"][0] for answer in answers]
    replies = [choice["message"]["content"] for choice in choices]
    found = scores(tandem, replies, [choice["finish_reason"] == "stop" for choice in choices])
    assert len(set(replies)) > 1 and len(set(found)) > 1
    best = max(range(K), key=lambda at: found[at])
    return first_seed + best, replies[best]


def test_the_scorer_tells_replies_apart_and_scores_each_by_itself(judged: Tandem) -> None:
    sides = [("Five.", True), ("I do not know that one.", True), ("", True), ("Five.", False)]
    alone = [scores(judged, [reply], [ended])[0] for reply, ended in sides]
    together = scores(judged, [reply for reply, _ in sides], [ended for _, ended in sides])
    assert together == pytest.approx(alone, abs=1e-4) and len(set(alone)) == 4


@pytest.mark.parametrize("stream", [False, True])
def test_the_reply_that_is_liked_best_is_given_and_recorded_as_such(judged: Tandem, stream: bool) -> None:
    seed, text = best_alone(judged, SEED)
    body = chat(seed=SEED, best_of=K, stream=stream)
    if stream:
        body["stream_options"] = {"include_usage": True}
    with judged.client("chat") as client:
        answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    if stream:
        *chunks, last = events(answer.text)
        assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert [bool(chunk["choices"][0]["finish_reason"]) for chunk in chunks].count(True) == 1
        usage, fingerprints = last["usage"], {chunk["system_fingerprint"] for chunk in chunks}
    else:
        usage, fingerprints = answer.json()["usage"], {answer.json()["system_fingerprint"]}
    assert (text_of(answer), fingerprints) == (text, {"v1"})
    (row,) = sample_of(judged.store, answer.headers["x-request-id"])
    assert row.text == text and row.seed == seed and (row.version_first, row.version_last) == (1, 1)
    assert row.sampling == {"max_tokens": 16, "best_of": K, "best_of_by": "itr_1"}
    assert len(row.token_ids or []) == len(row.logprobs or []) < usage["completion_tokens"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_comparison_of_two_that_were_chosen_is_of_the_rejection_sampled_tranche(judged: Tandem, stream: bool) -> None:
    with judged.client("vote") as client:
        answer = client.post("/v1/chat/completions", json=chat(n=2, best_of=K, seed=SEED, stream=stream))
    assert answer.status_code == 200, answer.text
    said = events(answer.text)[0] if stream else answer.json()
    row = judged.store.read(lambda session: session.get(Comparison, said["comparison_id"]))
    assert row is not None and row.tranche == "rejection-sampled"
    sides = [
        judged.store.read(lambda session, id_=id_: session.get(Sample, id_)) for id_ in (row.sample_0, row.sample_1)
    ]
    assert all(side is not None and side.sampling["best_of"] == K and not side.mixed for side in sides)
    # Each side has K seeds of its own.
    assert [(side.seed - SEED) // K for side in sides if side] == [0, 1]


def test_what_was_written_of_all_of_them_is_recorded_and_charged_when_their_client_leaves_before_the_choice(
    judged: Tandem, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = RateLimits(ServeSettings(tokens_per_minute=1_000_000), "redis+socket:///nonexistent/redis.sock")
    monkeypatch.setattr(judged.gateway, "rate_limits", limits)
    rows = leave_in_the_middle(judged, chat(seed=SEED, best_of=K, max_tokens=400, ignore_eos=True))
    assert sorted(row.seed for row in rows if row.seed is not None) == [SEED + at for at in range(K)]
    for row in rows:
        assert (row.status, row.finish_reason, row.version_first, row.version_last) == ("cancelled", None, 1, 1)
        assert 0 < len(row.token_ids or []) < 400 and len(row.logprobs or []) == len(row.token_ids or [])
        assert row.usage is not None and row.usage["completion_tokens"] == len(row.token_ids or [])
        assert row.sampling["best_of"] == K and row.sampling["best_of_by"] == "itr_1"
    written = sum(len(row.token_ids or []) for row in rows)
    (charged,) = limits._counts.values()
    assert rows[0].usage is not None and charged == rows[0].usage["prompt_tokens"] + written
    # They are what is written under their seeds when somebody waits.
    with judged.client("chat") as client:
        for row in rows:
            alone = chat(seed=row.seed, max_tokens=len(row.token_ids or []), ignore_eos=True, return_token_ids=True)
            said = client.post("/v1/chat/completions", json=alone).json()
            assert said["choices"][0]["token_ids"] == row.token_ids


@pytest.mark.parametrize("stream", [False, True])
def test_what_no_scorer_chose_from_is_recorded_as_failed(
    judged: Tandem, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judged.gateway, "scorer", Scorer(judged.settings.home, Record(judged.store), 60.0))
    with judged.client("chat") as client:
        answer = client.post("/v1/chat/completions", json=chat(best_of=K, stream=stream))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "scorer_unavailable")
    rows = sample_of(judged.store, answer.headers["x-request-id"])
    assert len(rows) == K and all(row.status == "failed" and row.token_ids and row.finish_reason for row in rows)


@pytest.mark.parametrize("fields", [{"best_of": 17}, {"best_of": 0}, {"best_of": "4"}])
def test_it_is_bounded(judged: Tandem, fields: dict[str, Any]) -> None:
    with judged.client("chat") as client:
        answer = client.post("/v1/chat/completions", json=chat(**fields))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "best_of")


def test_without_a_preference_model_it_is_refused(judged: Tandem) -> None:
    promote(judged, "v0")
    with judged.client("chat") as client:
        answer = client.post("/v1/chat/completions", json=chat(best_of=2, stream=True))
    promote(judged, "v1")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_preference_model")


def test_a_preference_model_that_was_changed_is_not_used(judged: Tandem) -> None:
    """And without a scorer the answer says so. Last, since the scorer is started anew and ends here."""
    promote(judged, "v2")
    with judged.client("chat") as client:
        answer = client.post("/v1/chat/completions", json=chat(best_of=2))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "scorer_unavailable")
        assert "not in this home" in answer.json()["error"]["message"]
        scorer_socket(judged.settings.run_dir).unlink()
        answer = client.post("/v1/chat/completions", json=chat(best_of=2))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "scorer_unavailable")
        assert client.post("/v1/chat/completions", json=chat()).status_code == 200
