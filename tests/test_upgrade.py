"""A home that earlier code left is gone on with: all of its votes are there, its keys open it, its policy serves."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import select

from feedback.migrations import downgrade
from feedback.schema import Vote, VoteRevision
from feedback.settings import load_settings
from feedback.store import Store, raters, votes
from tests.stack import running_stack
from tests.waiting import wait_for

LEFT = Path(__file__).parent / "homes" / "schema-0002"
WEIGHTS = Path(__file__).parents[1] / "learner" / "starting_policy" / "weights"


def make_home(home: Path) -> None:
    shutil.copytree(WEIGHTS, home / "policies" / "v0", ignore=shutil.ignore_patterns("SHA256SUMS"))
    shutil.copytree(LEFT / "v0", home / "policies" / "v0", dirs_exist_ok=True)
    with sqlite3.connect(home / "record.db") as connection:
        connection.executescript((LEFT / "record.sql").read_text())


def said(home: Path) -> dict[str, tuple[object, ...]]:
    """By vote: what it says, in which state it is, and at which revision; read by SQL, whatever the schema."""
    with sqlite3.connect(home / "record.db") as connection:
        rows = connection.execute(
            "SELECT id, comparison_id, rater_id, objective, preferred, strength, reason, ideal, success, state, "
            "revision FROM votes"
        ).fetchall()
    return {row[0]: row[1:] for row in rows}


def test_its_record_is_brought_up_to_date_and_says_what_it_said(tmp_path: Path) -> None:
    make_home(tmp_path)
    before = said(tmp_path)
    store = Store(load_settings(home=tmp_path).record_url)
    store.migrate()
    assert len(before) == 69
    assert said(tmp_path) == before
    assert store.read(votes.count_by_state) == {"counted": 66, "retracted": 1, "quarantined": 1, "accepted": 1}
    earlier = select(VoteRevision.vote_id).join(Vote).where(VoteRevision.revision == 1, Vote.state == "counted")
    (changed,) = store.read(lambda session: session.scalars(earlier).all())
    assert [revision.preferred for revision in store.read(votes.history, changed)] == ["0", "tie"]
    assert sum(rater.votes_counted for rater, _ in store.read(raters.list_all)) == 66
    downgrade(store.engine, "0002")
    assert said(tmp_path) == before, "and goes back"
    store.close()


@pytest.mark.faults
@pytest.mark.engine
@pytest.mark.timeout(600)
def test_a_stack_goes_on_with_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    make_home(home)
    before, secrets = said(home), json.loads((LEFT / "keys.json").read_text())
    with running_stack(home, TANDEM_LOOP__AUTOMATIC="false") as stack:
        store = stack.store()
        wait_for(lambda: not store.read(votes.count_by_state).get("accepted"), 60, "what was left to be counted")
        after = said(home)
        assert after.keys() == before.keys()
        states = {vote: (row[-2], after[vote][-2]) for vote, row in before.items() if row != after[vote]}
        assert list(states.values()) == [("accepted", "counted")], "nothing else changed"
        with stack.client() as client:
            headers = {"authorization": f"Bearer {secrets['vote']}"}
            chat = {"model": "tandem", "n": 2, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
            pair = client.post("/v1/chat/completions", json=chat, headers=headers)
            assert pair.status_code == 200, pair.text
            path = f"/v1/comparisons/{pair.json()['comparison_id']}/vote"
            vote = {"objective": "helpful", "preferred": 0, "strength": 1, "rater": "ann0"}
            assert client.put(path, json=vote, headers=headers).json()["status"] == "accepted"
            operator = {"authorization": f"Bearer {secrets['operate']}"}
            assert client.get("/v1/policies/v0", headers=operator).json()["state"] == "serving"
        store.close()
