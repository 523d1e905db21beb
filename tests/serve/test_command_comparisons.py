"""`tandem comparisons` against a running Tandem with real engines: pairs for a file of prompts, votes at a terminal."""

import gzip
import json
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from deploy.command.pairs import show_stored
from feedback.store import keys
from tests.deploy.command_line import start
from tests.feedback.record import add_comparison, sample
from tests.serve.conftest import Tandem
from tests.serve.terminal import PATIENCE_S, at_terminal, run

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.fixture
def key(tandem: Tandem) -> str:
    """Of a team that votes on pairs of its own."""
    return tandem.store.write(keys.create, "vote")[1]


def make(tandem: Tandem, key: str, *arguments: object) -> dict[str, int]:
    ran = run(tandem, "comparisons", "make", "--json", "--key", key, *map(str, arguments))
    assert ran.returncode == 0, ran.stderr
    said: dict[str, int] = json.loads(ran.stdout)
    return said


def asked(tandem: Tandem, key: str) -> Counter[str]:
    """The last message of each pair that the key may see. Not all are open: some are of twice the same reply."""
    with tandem.client(headers={"authorization": f"Bearer {key}"}) as client:
        page = client.get("/v1/comparisons", params={"status": "all", "limit": 100}).json()
    assert not page["has_more"]
    return Counter(pair["messages"][-1]["content"] for pair in page["data"])


def test_each_prompt_gets_its_pairs_once(tandem: Tandem, key: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt.gz"
    file.write_bytes(gzip.compress(b"Name a fruit.\n\n{What} is snow?\nName a fruit.\n"))
    assert make(tandem, key, file) == {"read": 3, "made": 3, "known": 0, "set_aside": 0}
    assert make(tandem, key, file) == {"read": 3, "made": 0, "known": 3, "set_aside": 0}
    assert asked(tandem, key) == {"Name a fruit.": 2, "{What} is snow?": 1}
    assert make(tandem, key, file, "--pairs", 2) == {"read": 3, "made": 3, "known": 3, "set_aside": 0}
    assert asked(tandem, key) == {"Name a fruit.": 4, "{What} is snow?": 2}
    other = tandem.store.write(keys.create, "vote")[1]
    assert asked(tandem, other) == {}
    assert make(tandem, other, file)["made"] == 3


def test_pairs_are_made_of_whatever_holds_a_prompt(tandem: Tandem, key: str, tmp_path: Path) -> None:
    question = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "TRL?"}]
    reply = [{"role": "assistant", "content": "Yes."}]
    taken = [
        "Plain?",
        {"prompt": "Prompt?"},
        {"prompt": question, "chosen": reply, "rejected": reply},
        {"messages": [{"role": "user", "content": "Messages?"}], "source": "us"},
        {"input": {"messages": [{"role": "user", "content": "OpenAI?"}]}, "preferred_output": reply},
        {"chosen": "\n\nHuman: HH?\n\nAssistant: Yes.", "rejected": "\n\nHuman: HH?\n\nAssistant: No."},
    ]
    left = {
        "not JSON": "not JSON",
        "[]": "neither a text nor a JSON object",
        '{"text": "x"}': "there is no prompt",
        '{"prompt": " "}': "the last message is empty",
        '{"prompt": [{"role": "assistant", "content": "I?"}]}': "the last message is not a user's",
        json.dumps({"prompt": "long " * 100_000}): "maximum context length",
    }
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join([*map(json.dumps, taken), *left]))
    ran = run(tandem, "comparisons", "make", "--pairs", "2", "--max-tokens", "4", "--key", key, str(file))
    assert ran.stdout == "12 read, 12 pairs made, 0 known already, 6 set aside\n"
    assert asked(tandem, key) == dict.fromkeys(["Plain?", "Prompt?", "TRL?", "Messages?", "OpenAI?", "HH?"], 2)
    *reasons, kept = ran.stderr.splitlines()
    for (record, reason), said in zip(left.items(), reasons, strict=True):
        assert reason in said, record[:40]
    assert [json.loads(line)["record"] for line in Path(kept.split()[-1]).read_text().splitlines()] == list(left)


def test_what_was_interrupted_goes_on(tandem: Tandem, key: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    prompts = [f"What is {number} plus 2?" for number in range(24)]
    file.write_text("\n".join(prompts))
    where = ("--home", tandem.settings.home, "--url", tandem.url, "--key", key)
    process = start("comparisons", "make", file, "--concurrency", 1, *where)
    deadline = time.monotonic() + PATIENCE_S
    while len(asked(tandem, key)) < 5:
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGINT)
    assert "goes on where it was" in process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == 130
    before = len(asked(tandem, key))
    assert 5 <= before < 24
    rest = make(tandem, key, file)
    # One may have been recorded whose answer the command did not wait for.
    assert rest["made"] + rest["known"] == 24
    assert rest["known"] >= before
    assert asked(tandem, key) == dict.fromkeys(prompts, 1)


def test_pairs_are_judged_at_a_terminal(tandem: Tandem) -> None:
    owner, key = tandem.store.write(keys.create, "vote")
    for thing in ("grass", "blood", "coal"):
        asked_for = [{"role": "user", "content": f"What colour is {thing}?"}]
        sides = (sample(f"{thing} is {colour}.", messages=asked_for, key_id=owner.id) for colour in ("red", "black"))
        add_comparison(tandem.store, *sides, key_id=owner.id)
    options = ("--objective", "harmless", "--rater", "ann", "--key", key)
    with at_terminal(tandem, "comparisons", "vote", *options) as terminal:
        terminal.wait_for("user: What colour is ")
        terminal.wait_for("s skip ")
        terminal.press("s")
        terminal.wait_for("user: What colour is ")
        terminal.wait_for("s skip ")
        terminal.press("1")
        terminal.wait_for("by how much")
        terminal.press("4")
        terminal.wait_for("vote cast: left is much better")
        terminal.wait_for("s skip ")
        terminal.press("s")
        terminal.wait_for("no others want a vote of yours; run this again for the 2 that you skipped")
        terminal.wait_for("1 vote cast")
    with at_terminal(tandem, "comparisons", "vote", *options) as terminal:
        for _ in range(2):
            terminal.wait_for("s skip ")
            terminal.press("t")
        terminal.wait_for("no more pairs want a vote of yours")
        terminal.wait_for("2 votes cast")
    with tandem.client(headers={"authorization": f"Bearer {key}"}) as client:
        pairs = client.get("/v1/comparisons", params={"status": "all", "rater": "ann"}).json()["data"]
    votes = [vote for pair in pairs for vote in pair["votes"]]
    assert {vote["objective"] for vote in votes} == {"harmless"}
    assert Counter((vote["preferred"], vote["strength"]) for vote in votes) == {(0, 4): 1, ("tie", None): 2}


def test_a_reply_that_calls_a_tool_shows_the_call(capsys: pytest.CaptureFixture[str]) -> None:
    calls = [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]
    calling = {"role": "assistant", "content": None, "tool_calls": calls}
    imported = {"role": "assistant", "content": "", "tool_calls": [{"name": "time"}, None]}
    show_stored([calling, imported, imported | {"tool_calls": "date"}], [calling, {"role": "assistant", "content": ""}])
    shown = capsys.readouterr().out
    assert shown.count('weather({"city": "Oslo"})') == 2
    assert 'assistant: {"name": "time"}\nnull\n' in shown and 'assistant: "date"\n' in shown
    assert "(an empty reply)" in shown


def test_voting_by_key_press_needs_a_terminal(tandem: Tandem) -> None:
    ran = run(tandem, "comparisons", "vote")
    assert ran.returncode == 2
    assert "docs/api.md" in ran.stderr
