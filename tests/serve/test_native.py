"""The native routes over HTTP, without engines: keys, forms of error, comparisons, votes, iterations, traffic."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Engine, event

from feedback.errors import RecordUnavailable
from feedback.schema import IMPORTED
from feedback.store import counting, keys, samples
from serve.record import SEARCHES
from serve.routes import iterations as routes
from tests.feedback.record import add_comparison, sample
from tests.serve.conftest import Tandem
from tests.waiting import wait_for


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("POST", "/chat/completions", "the base URL of an OpenAI client ends in /v1 here"),
        ("GET", "/models", "the base URL of an OpenAI client ends in /v1 here"),
        ("POST", "/v1/responses", "there are /v1/chat/completions and /v1/models"),
        ("POST", "/v1/completions", "there are /v1/chat/completions and /v1/models"),
        ("GET", "/v1/what_openai_has_next_year", "there are /v1/chat/completions and /v1/models"),
    ],
)
def test_an_openai_client_in_the_wrong_place_is_told_the_right_one(
    refusing: Tandem, method: str, path: str, said: str
) -> None:
    with refusing.client() as client:
        answer = client.request(method, path)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "unknown_route")
    assert error["message"].startswith(f"there is nothing at {method} {path}; ") and said in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("GET", "/v1/comparisons/cmp_x", "no comparison 'cmp_x'; GET /v1/comparisons shows them"),
        ("GET", "/v1/comparisons?after=cmp_x", "no comparison 'cmp_x'; GET /v1/comparisons shows them"),
        ("GET", "/v1/votes/vote_x", "no vote 'vote_x'; `tandem votes list` and GET /v1/votes show them"),
        ("GET", "/v1/policies/v9", "no policy version 'v9'; `tandem policies list` and GET /v1/policies show them"),
        (
            "GET",
            "/v1/iterations/itr_x",
            "no iteration 'itr_x'; `tandem iterations list` and GET /v1/iterations show them",
        ),
        ("POST", "/v1/raters/rtr_x/release", "no rater 'rtr_x'; `tandem raters list` and GET /v1/raters show them"),
        ("GET", "/v1/usage?key=x", "no key 'x'; `tandem keys list` shows them"),
        ("GET", "/v1/models/x", "no model 'x'; GET /v1/models shows them"),
    ],
)
def test_a_name_that_is_not_known_comes_with_where_they_are_shown(
    refusing: Tandem, method: str, path: str, said: str
) -> None:
    with refusing.client() as client:
        answer = client.request(method, path)
    problem = answer.json()
    assert (answer.status_code, problem.get("detail") or problem["error"]["message"]) == (404, said)


def test_a_problem_says_what_is_wrong(quiet: Tandem) -> None:
    with quiet.client() as client:
        answer = client.get("/v1/comparisons/cmp_none", headers={"x-request-id": "mine-1"})
        said = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-request-id"] == said["request_id"] == "mine-1"
        assert said.keys() == {"type", "title", "status", "detail", "code", "request_id"}
        assert (answer.status_code, said["status"], said["code"], said["title"]) == (404, 404, "not_found", "Not Found")
        unknown = client.get("/v1/votes/x/y")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_route")
        for path in ("/v1/nothing", "/v1/embeddings", "/v1/chat/completions/"):
            missing = client.post(path)
            assert missing.status_code == 404 and "allow" not in missing.headers, path
        for path in ("/", "/operate"):
            page = client.post(path)
            assert (page.status_code, page.headers["allow"]) == (405, "GET, HEAD")
        other = client.post("/v1/policies")
        assert (other.status_code, other.json()["code"]) == (405, "method_not_allowed")
        assert other.headers["allow"] == "GET"
        assert client.get("/v1/policies/v0/promote").headers["allow"] == "POST"
        assert client.get("/v1/policies/v99999999999999999999").status_code == 422
        broken = client.put("/v1/traffic", content=b"{", headers={"content-type": "application/json"})
        assert (broken.status_code, broken.json()["code"]) == (400, "malformed_json")
        for strange in (b'{"challenger":"\xff"}', b"[" * 100_000, b'{"chat_share":' + b"9" * 5_000 + b"}"):
            broken = client.put("/v1/traffic", content=strange, headers={"content-type": "application/json"})
            assert (broken.status_code, broken.json()["code"]) == (400, "malformed_json"), strange[:40]
        form = client.put("/v1/traffic", content=b'{"chat_share": 0}', headers={"content-type": "text/plain"})
        assert (form.status_code, form.json()["code"]) == (415, "unsupported_media_type")
        assert "content-type: application/json" in form.json()["detail"]
        large = client.put("/v1/traffic", content=b" " * 1_000_001)
        assert (large.status_code, large.json()["code"]) == (413, "body_too_large")


def test_openai_routes_err_in_openais_form(quiet: Tandem) -> None:
    with quiet.client() as client:
        chat = {"model": "tandem", "messages": [{"role": "user", "content": "x"}]}
        for answer, status, code in (
            (client.post("/v1/embeddings", json={}), 404, "unknown_route"),
            (client.get("/v1/chat/completions"), 405, "method_not_allowed"),
            (client.post("/v1/chat/completions", content=b"{"), 400, "malformed_json"),
            (client.post("/v1/chat/completions", content=b" " * 1_000_001), 413, "body_too_large"),
            (client.post("/v1/chat/completions", json=chat), 503, "engine_unavailable"),
        ):
            error = answer.json()["error"]
            assert error.keys() == {"message", "type", "param", "code"}
            assert (answer.status_code, error["code"]) == (status, code)
            assert answer.headers["x-request-id"]


def test_alive_but_not_ready_without_engines(quiet: Tandem) -> None:
    with quiet.client(headers={"authorization": ""}) as client:
        for ask in (client.get, client.head):
            assert ask("/healthz").status_code == 200
            assert ask("/readyz").status_code == 503
        assert client.head("/healthz").content == b""


def test_a_vote_from_put_to_retraction(quiet: Tandem) -> None:
    comparison_id = add_comparison(quiet.store, sample("5", 0), sample("6", 1), key_id="import")
    path = f"/v1/comparisons/{comparison_id}"
    judgement = {"objective": "helpful", "preferred": 1, "strength": 3, "rater": "ann"}
    with quiet.client("vote") as client:
        (listed,) = client.get("/v1/comparisons?status=open&objective=helpful&rater=ann").json()["data"]
        assert listed["id"] == comparison_id and listed["versions"] is None
        assert [choice["message"]["content"] for choice in listed["choices"]] == ["5", "6"]

        first = client.put(f"{path}/vote", json=judgement)
        assert (first.status_code, first.json()["status"]) == (200, "accepted")
        vote_id = first.json()["id"]
        assert client.put(f"{path}/vote", json=judgement).json() == {"id": vote_id, "status": "accepted"}
        changed = client.put(f"{path}/vote", json=judgement | {"preferred": "both_bad", "strength": None})
        assert changed.json()["id"] == vote_id

        assert client.get(path).json()["versions"] is None, "another rater has voted, not this one"
        assert client.get(path, params={"rater": "ann"}).json()["versions"] == ["v0", "v1"]
        assert client.get("/v1/comparisons?rater=ann").json()["data"] == []
        assert len(client.get("/v1/comparisons?rater=bob").json()["data"]) == 1

        seen = client.get(f"/v1/votes/{vote_id}").json()
        assert (seen["preferred"], seen["status"], seen["revision"]) == ("both_bad", "accepted", 2)
        gone = client.delete(f"{path}/vote", params={"rater": "ann"})
        assert gone.json()["ids"] == [vote_id]
        assert client.get(f"/v1/votes/{vote_id}").json()["status"] == "retracted"
        assert client.get(path, params={"rater": "ann"}).json()["versions"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"strength": 0}, {"strength": 5}, {"strength": "3"}, {"strength": True}, {"strength": None},
        {"preferred": 2}, {"preferred": "0"}, {"preferred": True}, {"left": True}, {"objective": "funny"},
        {"color": "red"}, {"objective": None},
    ],
)  # fmt: skip
def test_a_vote_that_cannot_be(refusing: Tandem, change: dict[str, Any]) -> None:
    comparison_id = add_comparison(refusing.store, key_id="import")
    body = {"objective": "helpful", "preferred": 1, "strength": 3} | change
    with refusing.client("vote") as client:
        answer = client.put(f"/v1/comparisons/{comparison_id}/vote", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "Value error" not in answer.json()["detail"]
    assert answer.json()["param"] == next(iter(change))


def test_a_preference_without_its_strength_names_the_field(quiet: Tandem) -> None:
    comparison_id = add_comparison(quiet.store, key_id="import")
    with quiet.client("vote") as client:
        answer = client.put(f"/v1/comparisons/{comparison_id}/vote", json={"objective": "helpful", "preferred": 1})
    assert (answer.status_code, answer.json()["param"]) == (422, "strength")


def test_anothers_comparison_and_vote_are_not_found(quiet: Tandem) -> None:
    comparison_id = add_comparison(quiet.store, key_id="key_of_somebody_else")
    body = {"objective": "helpful", "preferred": 1, "strength": 3}
    with quiet.client("vote") as client:
        assert client.get(f"/v1/comparisons/{comparison_id}").status_code == 404
        assert client.put(f"/v1/comparisons/{comparison_id}/vote", json=body).status_code == 404
        assert client.get("/v1/comparisons").json()["data"] == []
        # Not even that it is there is told.
        for after in (comparison_id, "cmp_none"):
            assert client.get("/v1/comparisons", params={"after": after}).status_code == 404
    with quiet.client("operate") as client:
        vote_id = client.put(f"/v1/comparisons/{comparison_id}/vote", json=body).json()["id"]
        assert client.get(f"/v1/votes/{vote_id}").status_code == 200
    with quiet.client("vote") as client:
        assert client.get(f"/v1/votes/{vote_id}").status_code == 404


def test_a_key_that_is_one_persons_makes_no_raters(quiet: Tandem) -> None:
    settings = quiet.gateway.settings
    one_each = settings.feedback.model_copy(update={"rater_names": False})
    quiet.gateway.settings = settings.model_copy(update={"feedback": one_each})
    comparison_id = add_comparison(quiet.store, key_id=IMPORTED)
    body = {"objective": "helpful", "preferred": 1, "strength": 3}
    for role, rater, status in (("vote", "ann", 403), ("vote", "", 200), ("operate", "ann", 200)):
        with quiet.client(role) as client:
            answer = client.put(f"/v1/comparisons/{comparison_id}/vote", json=body | {"rater": rater})
        assert answer.status_code == status, (role, rater, answer.text)
        assert "'rater'" in answer.text or status == 200


def test_an_operator_finds_everybodys_votes_and_a_rater_their_own(quiet: Tandem) -> None:
    comparison_id = add_comparison(quiet.store, sample("Five."), sample("Six!", 3), key_id="import")
    path = f"/v1/comparisons/{comparison_id}/vote"
    with quiet.client("vote") as client:
        for rater, preferred in (("ann", 0), ("bob", 1)):
            said = {"objective": "helpful", "preferred": preferred, "strength": 2, "rater": rater}
            client.put(path, json=said | {"reason": f"so says {rater}"}).raise_for_status()
        (own,) = client.get("/v1/votes", params={"rater": "ann", "text": "ANN"}).json()["data"]
        assert own["reason"] == "so says ann"
        assert client.get("/v1/votes", params={"rater": "ann", "text": "bob"}).json()["data"] == []
        for asked in ({"whose": "all"}, {"rater": "ann", "disputed": True}):
            assert client.get("/v1/votes", params=asked).status_code == 403
    with quiet.client("operate") as client:

        def reasons(**asked: Any) -> list[str]:
            return [
                vote["reason"][-3:] for vote in client.get("/v1/votes", params={"whose": "all"} | asked).json()["data"]
            ]

        assert reasons() == ["bob", "ann"]
        assert reasons(disputed=True, version="v3", text="six!", order="asc") == ["ann", "bob"]
        assert reasons(rater_id=own["rater"]) == reasons(preferred="0") == ["ann"]
        assert reasons(comparison=comparison_id, status="counted") == reasons(version="v7") == []
        assert reasons(until=own["created"]) == reasons(objective="harmless") == []
        assert client.get("/v1/votes", params={"rater_id": own["rater"]}).json()["data"] == [], "none of one's own"
        for wrong in ({"version": "3"}, {"text": ""}, {"preferred": "left"}, {"since": "nan"}):
            assert client.get("/v1/votes", params=wrong).status_code == 422, wrong


def test_comparisons_come_in_pages(quiet: Tandem) -> None:
    made = {add_comparison(quiet.store, key_id="import") for _ in range(5)}
    for status in ("open", "all"):
        seen, after = list[str](), None
        with quiet.client("vote") as client:
            while True:
                page = client.get(
                    "/v1/comparisons", params={"status": status, "limit": 2} | ({"after": after} if after else {})
                )
                said = page.json()
                assert said["object"] == "list" and len(said["data"]) <= 2
                assert (said["first_id"], said["last_id"]) == (said["data"][0]["id"], said["data"][-1]["id"])
                seen += [pair["id"] for pair in said["data"]]
                after = said["last_id"]
                if not said["has_more"]:
                    break
        assert set(seen) == made
        # Of open pairs the first page may hold one that was drawn from further down, where it stands as well.
        assert len(seen) <= (6 if status == "open" else 5)


def test_an_iteration_is_started_once_and_followed(quiet: Tandem) -> None:
    with quiet.client() as client:
        started = client.post("/v1/iterations", json={"reason": "now"})
        assert (started.status_code, started.json()["state"], started.json()["reason"]) == (201, "queued", "now")
        iteration_id = started.json()["id"]
        assert client.post("/v1/iterations").status_code == 409
        assert client.get("/v1/iterations").json()["data"][0]["id"] == iteration_id
        with client.stream("GET", f"/v1/iterations/{iteration_id}/events") as events:
            lines = events.iter_lines()
            first = [next(lines) for _ in range(3)]
        assert first[0].startswith("id: ") and first[1] == "event: queued"
        seq = int(first[0][4:])
        end_iteration(quiet, iteration_id)
        rest = client.get(f"/v1/iterations/{iteration_id}/events", headers={"last-event-id": str(seq)}).text
        assert [line for line in rest.splitlines() if line.startswith("event")] == ["event: started", "event: failed"]
        assert client.get("/v1/iterations/itr_none/events").status_code == 404


def test_who_loses_the_key_follows_no_further(quiet: Tandem) -> None:
    key, secret = quiet.store.write(keys.create, "operate")
    with quiet.client() as client:
        path = f"/v1/iterations/{client.post('/v1/iterations').json()['id']}/events"
        with client.stream("GET", path, headers={"authorization": f"Bearer {secret}"}) as events:
            lines = events.iter_lines()
            assert next(lines).startswith("id: ")
            quiet.store.write(keys.revoke, key.id)
            for line in lines:
                assert line != ": still there", "it follows on"


async def test_who_follows_while_the_record_stands_still_hears_that_somebody_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = list[int]()

    async def stand_still(*_: Any) -> None:
        looks.append(1)
        await asyncio.sleep(0.05)
        raise RecordUnavailable("it does not answer")

    async def let_in(*_: Any) -> None:
        pass

    monkeypatch.setattr(routes, "KEEP_ALIVE_INTERVAL_S", 0.02)
    monkeypatch.setattr(routes, "LOOK_INTERVAL_S", 0.001)
    parts: Any = SimpleNamespace(
        stopping=asyncio.Event(), keyring=SimpleNamespace(require=let_in), record=SimpleNamespace(read=stand_still)
    )
    events = routes._events(parts, cast(Any, None), "itr_1", 0)
    assert await anext(events) == b": still there\n\n"
    await events.aclose()
    assert len(looks) == 1


def end_iteration(quiet: Tandem, iteration_id: str) -> None:
    from feedback.store import iterations

    claimed = quiet.store.write(iterations.claim, iteration_id, "test", 60.0, 3)
    assert claimed is not None
    quiet.store.write(iterations.fail, iteration_id, claimed[1], "on purpose")


def test_traffic_shares(quiet: Tandem) -> None:
    with quiet.client() as client:
        shares = client.get("/v1/traffic").json()
        assert shares == {
            "object": "traffic", "challenger": None, "chat_share": 0.0, "comparison_share": 0.0, "processes": [],
        }  # fmt: skip
        assert client.put("/v1/traffic", json=shares).json() == shares, "what was read can be sent back"
        assert client.put("/v1/traffic", json={"chat_share": 1.5}).status_code == 422
        assert client.put("/v1/traffic", json={"challenger": "new"}).status_code == 422
        assert client.put("/v1/traffic", json={"challenger": "v9"}).status_code == 404
        assert client.put("/v1/traffic", json={"chat_share": 0.25}).json()["chat_share"] == 0.25


def test_a_rater_is_told_how_they_do_and_an_operator_sets_them_apart(quiet: Tandem) -> None:
    comparison_id = add_comparison(quiet.store, key_id="import")
    with quiet.client("vote") as client:
        nobody_yet = client.get("/v1/raters/me").json()
        assert (nobody_yet["id"], nobody_yet["votes_since"], nobody_yet["guidelines"]) == (None, 0, "")
        body = {"objective": "helpful", "preferred": 1, "strength": 3}
        client.put(f"/v1/comparisons/{comparison_id}/vote", json=body).raise_for_status()
        own = client.get("/v1/raters/me").json()
        assert (own["votes_since"], own["agreement_with_others"]) == (1, None)
        assert own["open"] == {"helpful": 0, "harmless": 1} != nobody_yet["open"] == {"helpful": 1, "harmless": 1}
        assert client.get("/v1/raters/me", params={"since": time.time() + 60}).json()["votes_since"] == 0
        assert client.get("/v1/raters/me", params={"rater": "ann"}).json()["votes_since"] == 0
    with quiet.client() as client:
        assert client.get("/v1/raters/agreement").json()["data"] == [
            {"objective": objective, "agreement": None, "pairs": 0, "votes": 0} for objective in ("helpful", "harmless")
        ]
        (rater,) = client.get("/v1/raters").json()["data"]
        assert (rater["id"], rater["state"], rater["votes"]) == (own["id"], "active", 1)
        assert client.get("/v1/raters", params={"after": rater["id"]}).json()["data"] == []
        assert client.post(f"/v1/raters/{own['id']}/quarantine", json={}).status_code == 422
        apart = client.post(f"/v1/raters/{own['id']}/quarantine", json={"reason": "a robot"}).json()
        assert apart == {"id": own["id"], "state": "quarantined", "votes": 1}
        assert client.get("/v1/raters").json()["data"][0]["reason"] == "a robot"
        assert client.post(f"/v1/raters/{own['id']}/release").json()["state"] == "active"
        assert client.post("/v1/raters/rtr_none/release").status_code == 404


def test_an_operator_makes_an_answer_known(quiet: Tandem) -> None:
    comparison_id = add_comparison(quiet.store)
    path = f"/v1/comparisons/{comparison_id}/answer"
    with quiet.client("operate") as client:
        known = client.put(path, json={"objective": "helpful", "preferred": 1}).json()
        assert (known["comparison"], known["objective"], known["preferred"]) == (comparison_id, "helpful", 1)
        for no_side in ("tie", "1", True):
            refused = client.put(path, json={"objective": "helpful", "preferred": no_side})
            assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
        none = client.put("/v1/comparisons/cmp_none/answer", json={"objective": "helpful", "preferred": 1})
        assert none.status_code == 404
        assert client.delete(path, params={"objective": "harmless"}).status_code == 404
        assert client.delete(path, params={"objective": "helpful"}).json()["status"] == "removed"


def test_a_rater_is_erased(quiet: Tandem) -> None:
    comparison_id = add_comparison(quiet.store, key_id="import")
    with quiet.client("vote") as client:
        body = {"objective": "helpful", "preferred": 1, "strength": 3, "rater": "ann"}
        vote_id = client.put(f"/v1/comparisons/{comparison_id}/vote", json=body).json()["id"]
        rater_id = client.get(f"/v1/votes/{vote_id}").json()["rater"]
    with quiet.client() as client:
        assert client.delete(f"/v1/raters/{rater_id}").json() == {
            "id": rater_id, "status": "erased", "used_by": [], "used_in": [],
        }  # fmt: skip
        assert client.delete(f"/v1/raters/{rater_id}").status_code == 404


@pytest.mark.parametrize("user", ["visitor", None])
def test_who_only_chats_is_erased_by_key_and_name(quiet: Tandem, user: str | None) -> None:
    own, other = sample(key_id="key_x", user=user), sample(key_id="key_x", user="another")
    ids = own.id, other.id
    quiet.store.write(samples.add, [own, other])
    whom = {"key_id": "key_x"} | ({} if user is None else {"name": user})
    with quiet.client() as client:
        assert client.delete("/v1/raters", params=whom).json()["status"] == "erased"
        again = client.delete("/v1/raters", params=whom)
        assert again.status_code == 404 and "nobody votes or chats" in again.json()["detail"]
        assert client.delete("/v1/raters").status_code == 422
    assert [quiet.store.read(samples.get, one).messages == [] for one in ids] == [True, False]


def test_the_metrics_name_no_person(quiet: Tandem) -> None:
    with quiet.client() as client:
        client.get("/v1/comparisons/cmp_secret")
        text = client.get("/metrics").text
    assert 'route="/v1/comparisons/{comparison_id}"' in text and "cmp_secret" not in text
    assert "tandem_engine_ready" in text and 'tandem_votes{state="accepted"} 0.0' in text


def test_every_answer_is_hardened(quiet: Tandem) -> None:
    with quiet.client() as client:
        page = client.get("/")
        assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
        assert client.get("/../app.py").status_code == 404


def test_whoever_looks_for_a_text_keeps_nobody_from_voting(quiet: Tandem) -> None:
    """Searches that take long, more of them than there are threads."""
    comparison_id = add_comparison(quiet.store, key_id="import")
    looked_for: list[str] = []
    goes_on = threading.Event()

    def take_long(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "instr(" in statement:
            looked_for.append(statement)
            goes_on.wait(120)

    event.listen(Engine, "before_cursor_execute", take_long)
    try:
        with quiet.client("operate") as client, ThreadPoolExecutor(12) as pool:
            asked = {"whose": "all", "text": "nowhere"}
            searches = [pool.submit(client.get, "/v1/votes", params=asked) for _ in range(12)]
            try:
                wait_for(lambda: len(looked_for) >= SEARCHES, 60, "as many searches as there are threads for")
                vote = {"objective": "helpful", "preferred": 0, "strength": 2}
                assert client.put(f"/v1/comparisons/{comparison_id}/vote", json=vote).status_code == 200
                assert len(looked_for) == SEARCHES
            finally:
                goes_on.set()
            assert {search.result().status_code for search in searches} == {200}
    finally:
        event.remove(Engine, "before_cursor_execute", take_long)


def test_ratings_are_controlled_for_length(quiet: Tandem) -> None:
    with quiet.client("operate") as client:
        for preferred, sides in ((0, ("a long reply", "short")), (1, ("short", "a long reply")), (0, ("same", "same"))):
            pair = add_comparison(quiet.store, sample(sides[0]), sample(sides[1], version=1))
            vote = {"objective": "helpful", "preferred": preferred, "strength": 2}
            client.put(f"/v1/comparisons/{pair}/vote", json=vote).raise_for_status()
        quiet.store.write(counting.count_accepted)
        helpful, harmless = client.get("/v1/ratings/length-controlled").json()["data"]
        assert [rating["version"] for rating in helpful["ratings"]] == ["v0", "v1"]
        assert helpful["interval"][0] < helpful["twice_as_long"] < helpful["interval"][1]
        assert (harmless["ratings"], harmless["twice_as_long"]) == ([], None)


def test_what_is_shown_of_one_thing_is_one_look_at_the_record(quiet: Tandem) -> None:
    """Each further one is three round trips to a Postgres, and another state of things."""
    pair = add_comparison(quiet.store, key_id="import")
    begun: list[bool] = []

    def begins(connection: Any) -> None:
        if not connection.get_execution_options()["tandem_writes"]:
            begun.append(True)

    with quiet.client("operate") as client:
        vote = {"objective": "helpful", "preferred": 0, "strength": 2}
        voted = client.put(f"/v1/comparisons/{pair}/vote", json=vote).raise_for_status().json()["id"]
        event.listen(quiet.gateway.record.store.engine, "begin", begins)
        for path in (f"v1/comparisons/{pair}", f"v1/votes/{voted}", "v1/votes", "v1/raters/me", "metrics"):
            begun.clear()
            client.get(f"/{path}").raise_for_status()
            # And one for the key, when it was last looked at a second ago.
            assert 1 <= len(begun) <= 2, (path, len(begun))
