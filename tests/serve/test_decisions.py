"""Decisions over HTTP, without engines: the gate refuses and says why, the audit tells, a vote says what it did."""

import pytest

from feedback.store import Store, datasets, iterations, policies, votes
from feedback.store.datasets import Learnt
from feedback.store.policies import Provenance
from feedback.worker import count_all
from tests.feedback.record import add_comparison, judgement
from tests.serve.conftest import Tandem
from tests.serve.pages.evidence import evaluation


def add_candidate(store: Store, win_rate: float) -> str:
    """v1, made of one vote by one iteration. Returns the vote's id."""
    store.write(policies.register_start, "policies/v0", "sha256:0", {})
    pair = add_comparison(store)
    vote = store.write(votes.put, pair, judgement(), key_id="key_a", sees_all=False, rater="ann")
    count_all(store)
    assert [row.vote_id for row in store.read(lambda session: list(datasets.counted(session)))] == [vote.id]
    iteration = store.write(iterations.start, trigger="test", seed=0, settings={})
    claimed = store.write(iterations.claim, iteration.id, "test", 60.0, 5)
    assert claimed is not None
    epoch = claimed[1]
    digest = "d" * 64
    store.write(iterations.begin_dataset, iteration.id, epoch, digest=digest, path="datasets/d", summary={})
    learnt = Learnt(vote.id, 1, "train", 0.8, None, 1.0)
    store.write(iterations.add_to_dataset, iteration.id, epoch, digest, [learnt])
    store.write(iterations.freeze, iteration.id, epoch, digest)
    made = Provenance(0, iteration.id, digest, {}, 0, {"evaluation": evaluation(win_rate)})
    store.write(policies.publish, 1, "policies/v1", "sha256:1", made, epoch=epoch)
    store.write(iterations.succeed, iteration.id, epoch, 1)
    return vote.id


def test_the_gate_refuses_with_what_failed_and_force_needs_a_reason(quiet: Tandem) -> None:
    add_candidate(quiet.store, 0.3)
    with quiet.client() as client:
        gate = client.get("/v1/policies/v1").json()["gate"]
        assert (gate["against"], gate["passes"]) == ("v0", False)
        first = gate["rules"][0]
        assert (first["rule"], first["verdict"], first["blocks"]) == ("win_rate_upper >= 0.5", "fail", True)
        assert (first["value"], first["interval"], first["bound"]) == (0.4, pytest.approx([0.2, 0.4]), 0.5)
        refused = client.post("/v1/policies/v1/promote", json={"reason": "hope"})
        said = refused.json()
        assert (refused.status_code, said["code"]) == (409, "gate_refused")
        assert refused.headers["content-type"] == "application/problem+json"
        failed = ["win_rate_upper >= 0.5", "serving_win_rate_upper >= 0.5"]
        assert [rule["rule"] for rule in said["rules"]] == failed
        assert "win_rate_upper >= 0.5 (it is 0.4, interval 0.2 to 0.4)" in said["detail"]
        assert client.post("/v1/policies/v1/promote", json={"force": True}).status_code == 400
        # Past the gate; that there is no engine here is another matter.
        forced = client.post("/v1/policies/v1/promote", json={"force": True, "reason": "we know better"})
        assert forced.json()["code"] != "gate_refused"
        attempts = client.get("/v1/policies/v1").json()["promotions"]
        assert [(one["force"], one["reason"]) for one in attempts] == [(False, "hope"), (True, "we know better")]


def test_the_audit_tells_who_decided_what(quiet: Tandem) -> None:
    add_candidate(quiet.store, 0.3)
    with quiet.client() as client:
        client.post("/v1/policies/v1/promote", json={"reason": "hope"})
        client.put("/v1/traffic", json={"comparison_share": 0.5})
        first = client.get("/v1/audit", params={"order": "asc", "limit": 100}).json()
        actions = [entry["action"] for entry in first["data"]]
        assert actions[-4:] == ["iteration.start", "policy.publish", "policy.promote", "traffic.set"]
        assert actions.count("settings.gate") == 1, "the rules themselves are noted"
        promoted = first["data"][-2]
        assert promoted["actor"].startswith("key_") and promoted["data"]["outcome"] == "failed"
        page = client.get("/v1/audit", params={"limit": 1, "after": first["last_id"]}).json()
        assert [entry["id"] for entry in page["data"]] == [int(first["last_id"]) - 1] and page["has_more"]
        about = client.get("/v1/audit", params={"subject": "v1"}).json()["data"]
        assert {entry["subject"] for entry in about} == {"v1"}
        chain = client.get("/v1/audit/chain").json()
        assert chain["intact"] and chain["entries"] == len(actions) and chain["head"] == first["data"][-1]["digest"]


@pytest.mark.parametrize(
    "figure", ["NaN", "1e999", "9" * 400, '"\\ud800"', 300 * "[" + 300 * "]"], ids=lambda figure: figure[:8]
)
def test_evidence_that_could_not_be_kept_as_it_is_is_refused(quiet: Tandem, figure: str) -> None:
    add_candidate(quiet.store, 0.3)
    with quiet.client(headers={"content-type": "application/json"}) as client:
        before = client.get("/v1/policies/v1").json()["evidence"]
        answer = client.put("/v1/policies/v1/evidence/tax", content=f'{{"value": {figure}}}')
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert client.get("/v1/policies/v1").json()["evidence"] == before
        assert client.put("/v1/policies/v1/evidence/tax", json={"value": 0.25, "count": 2**63}).status_code == 200


def test_versions_that_have_not_changed_are_not_sent_again(quiet: Tandem) -> None:
    quiet.store.write(policies.register_start, "policies/v0", "sha256:0", {})

    def seen(tag: str | None) -> tuple[int, str, bytes]:
        headers = {} if tag is None else {"if-none-match": tag}
        with quiet.client() as client:
            answer = client.get("/v1/policies", headers=headers)
        return answer.status_code, answer.headers["etag"], answer.content

    tags = [seen(None)[1]]
    for change in (
        lambda: add_candidate(quiet.store, 0.7),
        lambda: quiet.store.write(policies.add_evidence, 1, "tax", {"x": 1}, actor="test"),
        lambda: quiet.store.write(policies.set_serving, 1, kind="promote", reason="", force=False, actor="test"),
    ):
        assert seen(tags[-1]) == (304, tags[-1], b"")
        change()
        status, tag, content = seen(tags[-1])
        assert status == 200 and b"v0" in content
        tags.append(tag)
    assert len(set(tags)) == len(tags)


def test_a_vote_says_what_it_changed_and_a_version_what_it_is_made_of(quiet: Tandem) -> None:
    vote_id = add_candidate(quiet.store, 0.7)
    with quiet.client() as client:
        vote = client.get(f"/v1/votes/{vote_id}").json()
        assert vote["compared"] == ["v0", "v1"]
        assert [(revision["revision"], revision["preferred"]) for revision in vote["history"]] == [
            (1, vote["preferred"])
        ]
        used = vote["versions"]
        assert used == [{"version": "v1", "state": "candidate", "split": "train", "promoted": None}]
        quiet.store.write(policies.set_serving, 1, kind="promote", reason="", force=False, actor="test")
        (now,) = client.get(f"/v1/votes/{vote_id}").json()["versions"]
        assert now["state"] == "serving" and now["promoted"] > 0
        (made_of,) = client.get("/v1/policies/v1/votes").json()["data"]
        assert (made_of["id"], made_of["used_revision"], made_of["split"]) == (vote_id, 1, "train")
        assert client.get("/v1/votes").json()["data"] == [], "these are the operator's own"
        assert client.get("/v1/policies/v0/votes").json()["data"] == []
        assert client.get("/v1/policies/v9/votes").status_code == 404


def test_a_rater_sees_what_their_own_votes_changed(quiet: Tandem) -> None:
    pairs = [add_comparison(quiet.store, key_id="import") for _ in range(3)]
    body = {"objective": "helpful", "preferred": 1, "strength": 3}
    with quiet.client("vote") as client:
        assert client.get("/v1/votes").json() == {
            "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False,
        }  # fmt: skip
        for pair, rater in zip(pairs, ("", "", "ann"), strict=True):
            client.put(f"/v1/comparisons/{pair}/vote", json=body | {"rater": rater}).raise_for_status()
        own = client.get("/v1/votes").json()["data"]
        assert [vote["comparison"] for vote in own] == [pairs[1], pairs[0]] and own[0]["versions"] == []
        assert len(client.get("/v1/votes", params={"rater": "ann"}).json()["data"]) == 1
        page = client.get("/v1/votes", params={"limit": 1}).json()
        assert page["has_more"] and [vote["comparison"] for vote in page["data"]] == [pairs[1]]
    with quiet.client() as client:
        assert client.get("/v1/votes").json()["data"] == []
