"""`tandem chat` and `tandem simulate` against a running Tandem with real engines; the terminal is a real one, too."""

import json

import pytest

from tests.serve.conftest import Tandem
from tests.serve.terminal import at_terminal, run

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


def test_a_key_press_votes_and_the_chosen_reply_goes_on(tandem: Tandem) -> None:
    with at_terminal(tandem, "chat", "--pairs", "1", "--objective", "harmless") as terminal:
        terminal.wait_for("you: ")
        terminal.press("What colour is snow?\n")
        terminal.wait_for("s skip ")
        terminal.press("x2")  # x is no answer
        terminal.wait_for("by how much")
        terminal.press("3")
        terminal.wait_for("vote accepted: right is clearly better")
        terminal.press("And grass?\n")
        terminal.wait_for("s skip ")
        terminal.press("b")
        terminal.wait_for("vote accepted: both bad")
        terminal.wait_for("you: ")
        terminal.press("\x04")
    later, earlier = newest_pairs(tandem, 2)
    assert [(vote["preferred"], vote["strength"], vote["objective"]) for vote in earlier["votes"]] == [
        (1, 3, "harmless")
    ]
    assert [(vote["preferred"], vote["strength"]) for vote in later["votes"]] == [("both_bad", None)]
    asked, replied, asked_then = later["messages"]
    assert (asked["content"], asked_then["content"]) == ("What colour is snow?", "And grass?")
    assert replied["content"] == earlier["choices"][1]["message"]["content"]


def test_skipping_casts_no_vote(tandem: Tandem) -> None:
    with at_terminal(tandem, "chat", "--pairs", "1") as terminal:
        terminal.wait_for("you: ")
        terminal.press("Name three fruits.\n")
        terminal.wait_for("s skip ")
        terminal.press("s")
        terminal.wait_for("going on with the left reply")
        terminal.wait_for("you: ")
        terminal.press("\x04")
    (pair,) = newest_pairs(tandem, 1)
    assert pair["messages"][0]["content"] == "Name three fruits."
    assert pair["votes"] == []


def test_a_single_reply_says_its_version_and_new_forgets(tandem: Tandem) -> None:
    with at_terminal(tandem, "chat", "--pairs", "0") as terminal:
        terminal.wait_for("you: ")
        terminal.press("What is 2 + 3?\n")
        terminal.wait_for("[v")
        terminal.wait_for("you: ")
        terminal.press("/new\n")
        terminal.wait_for("you: ")
        terminal.press("\x04")


def test_lines_of_a_pipe_are_one_conversation(tandem: Tandem) -> None:
    ran = run(tandem, "chat", "--json", prompts="What colour is snow?\n\nAnd grass?\n")
    assert ran.returncode == 0, ran.stderr
    first, second = (json.loads(line) for line in ran.stdout.splitlines())
    assert first["prompt"] == "What colour is snow?"
    assert second["prompt"] == "And grass?"
    assert first["reply"]
    assert first["version"] in ("v0", "v1", "v2")
    plain = run(tandem, "chat", prompts="What is 2 + 3?\n")
    assert plain.stdout.count("\n") == 1
    assert plain.stderr == ""


def test_pairs_need_a_terminal(tandem: Tandem) -> None:
    ran = run(tandem, "chat", "--pairs", "1", prompts="Hello\n")
    assert ran.returncode == 2
    assert "needs a terminal" in ran.stderr


def test_simulated_people_vote_and_versions_are_compared(tandem: Tandem) -> None:
    before = len(votes_of(tandem))
    ran = run(tandem, "simulate", "--votes", "6", "--compare", "v0", "v0", "--json")
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["simulation"]["votes"] == 6
    assert len(votes_of(tandem)) == before + 6
    assert 0.3 < said["comparison"]["win_rate"] < 0.7
    assert set(said["comparison"]["before"]) >= {"complies", "refuses", "rude", "correct", "over_refusal"}
    missing = run(tandem, "simulate", "--votes", "6", "--compare", "v0", "v77")
    assert missing.returncode == 3
    assert missing.stderr == "tandem: no engine holds v77; `tandem policies list` shows which versions are loaded\n"
    assert len(votes_of(tandem)) == before + 6


def newest_pairs(tandem: Tandem, count: int) -> list[dict]:
    """As the API shows them to the rater who voted."""
    with tandem.client() as client:
        return client.get("/v1/comparisons", params={"status": "all", "limit": count}).json()["data"]


def votes_of(tandem: Tandem) -> list[str]:
    with tandem.store.engine.connect() as connection:
        return [row[0] for row in connection.exec_driver_sql("SELECT id FROM votes")]
