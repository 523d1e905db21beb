"""A challenger's share of chats and of comparisons, with real engines: a conversation stays with one version."""

from collections.abc import Iterator
from typing import Any

import pytest

from feedback.schema import Comparison
from feedback.store import keys
from serve.chat.completions import conversation_number
from tests.serve.api_process import promote
from tests.serve.chats import chat
from tests.serve.conftest import Tandem

pytestmark = pytest.mark.engine

CONVERSATIONS = 40


@pytest.fixture
def challenged(tandem: Tandem) -> Iterator[Tandem]:
    """v0 serves; v1 has half of the chats and all comparisons."""
    promote(tandem, "v0")
    shares = {"challenger": "v1", "chat_share": 0.5, "comparison_share": 1.0}
    with tandem.client() as client:
        answer = client.put("/v1/traffic", json=shares)
        assert answer.status_code == 200, answer.text
    yield tandem
    with tandem.client() as client:
        client.put("/v1/traffic", json={"challenger": None, "chat_share": 0, "comparison_share": 0})


def test_its_share_of_conversations_and_each_stays_with_one_version(challenged: Tandem) -> None:
    versions = set[str]()
    key = challenged.store.read(keys.find, challenged.secrets["chat"])
    assert key is not None
    with challenged.client("chat") as client:
        for number in range(CONVERSATIONS):
            messages: list[dict[str, Any]] = [{"role": "user", "content": f"What is {number} plus 3?"}]
            seen, number_of_it = set(), conversation_number(messages, key.key.id)
            for _ in range(2):
                said = client.post("/v1/chat/completions", json=chat(messages=messages, max_tokens=2)).json()
                seen.add(said["system_fingerprint"])
                content = said["choices"][0]["message"]["content"]
                messages += [{"role": "assistant", "content": content}, {"role": "user", "content": "And more?"}]
            assert seen == {"v1" if number_of_it < 0.5 else "v0"}
            versions |= seen
    assert versions == {"v0", "v1"}


def test_it_challenges_no_more_when_it_serves_nor_when_it_is_rolled_back(challenged: Tandem) -> None:
    assert promote(challenged, "v1").status_code == 200
    with challenged.client() as client:
        shares = client.get("/v1/traffic").json()
        itself = client.put("/v1/traffic", json={"challenger": "v1", "chat_share": 0.5})
        assert client.post("/v1/policies/rollback", json={"reason": "worse"}).json()["version"] == "v0"
        messages = [[{"role": "user", "content": f"What is {number} plus 3?"}] for number in range(20)]
        answers = [client.post("/v1/chat/completions", json=chat(messages=one, max_tokens=1)) for one in messages]
    assert (shares["challenger"], shares["chat_share"], shares["comparison_share"]) == (None, 0, 0)
    assert (itself.status_code, itself.json()["param"]) == (409, "challenger")
    assert {answer.json()["system_fingerprint"] for answer in answers} == {"v0"}


def test_every_comparison_has_it_on_one_side(challenged: Tandem) -> None:
    with challenged.client("vote") as client:
        for _ in range(6):
            said = client.post("/v1/chat/completions", json=chat(n=2, max_tokens=2)).json()
            row = challenged.store.read(lambda session, id_=said["comparison_id"]: session.get(Comparison, id_))
            assert row is not None and {row.version_0, row.version_1} == {0, 1}
