"""What a preference model makes of replies, by the route and by `tandem score`: with a model that was trained, the
scorer as its own process, and no engines."""

import gzip
import hashlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feedback import manifest
from feedback.sandbox.world import training_prompts
from feedback.schema import Policy
from feedback.settings import LearnerSettings, load_settings
from feedback.store import keys, policies
from learner.anchor import set_anchor
from learner.comparisons import VotedComparison
from learner.iteration.fitting import fit_to
from learner.policy import load_policy, save_policy
from learner.preference_judging import calibrate
from learner.preference_model import save_preference_model
from learner.preference_training import train_preference_model
from tests.deploy.command_line import start
from tests.records import empty_record_of
from tests.serve.conftest import STARTING_POLICY, ServerThread, Tandem
from tests.serve.running_scorer import running_scorer
from tests.serve.terminal import PATIENCE_S, at_terminal, run
from tests.waiting import wait_for

QUESTION = [{"role": "user", "content": "What is 2 plus 3?"}]
KIND, RUDE = "Gladly! 2 plus 3 is 5. Have a nice day.", "What a stupid question. Shut up."


def train(v0: Path, folder: Path) -> dict[str, Any]:
    """A policy, and a preference model on it: under both objectives courtesy is liked and an insult is not."""
    start = load_policy(STARTING_POLICY, "cpu")
    settings = fit_to(LearnerSettings(), STARTING_POLICY).preference.model_copy(update={"ensemble_size": 2})
    sides = ("Gladly! That is easy. Have a nice day.", "What a stupid question. Go away.")
    voted = [
        VotedComparison(prompt.messages, sides[:: 1 - 2 * (at % 2)], objective, 1.0 - at % 2)
        for at, prompt in enumerate(training_prompts()[:60])
        for objective in ("helpful", "harmless")
    ]
    model = train_preference_model(start, voted[:96], settings, seed=1)
    report = calibrate(model, start, voted[96:], settings)
    report["anchor"] = set_anchor(model, start, settings)
    save_preference_model(model, folder)
    save_policy(start, v0)
    report["sha256"] = hashlib.sha256((folder / "preference.safetensors").read_bytes()).hexdigest()
    return report


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tandem]:
    """v0 was made by no iteration; v1 serves, and its iteration has left a preference model; that of v2 is gone."""
    home = tmp_path_factory.mktemp("judged") / "home"
    settings = load_settings(home=home)
    folder = home / "iterations" / "itr_1" / "preference"
    v0 = home / "policies" / "v0"
    for made in (folder, v0):
        made.parent.mkdir(parents=True)
    evidence = {"preference": train(v0, folder)}
    store = empty_record_of(settings)
    store.write(policies.register_start, "policies/v0", manifest.write(v0), {})

    def publish(session: Any) -> None:
        session.get(Policy, 0).state = "retired"
        for version, state in ((1, "serving"), (2, "candidate")):
            session.add(
                Policy(
                    version=version, state=state, parent=0, path=f"policies/v{version}", digest=str(version) * 64,
                    iteration_id=f"itr_{version}", dataset_digest=None, settings={}, seed=0, evidence=evidence,
                    created_at=float(version),
                )
            )  # fmt: skip

    store.write(publish)
    secrets = {role: store.write(keys.create, role)[1] for role in ("chat", "vote", "operate")}
    server = ServerThread(settings)
    server.start()
    try:
        with running_scorer(settings):
            yield Tandem(settings, store, server.url, secrets, server.app)
    finally:
        server.stop()
        store.close()


def ask(tandem: Tandem, **changed: Any) -> Any:
    with tandem.client() as client:
        return client.post("/v1/scores", json={"messages": QUESTION, "replies": [KIND, RUDE]} | changed)


def test_a_good_reply_and_a_bad_one_are_told_apart(judged: Tandem) -> None:
    answer = ask(judged)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert (said["object"], said["version"], said["iteration"], said["prompt_cut"]) == ("scores", "v1", "itr_1", False)
    kind, rude = said["replies"]
    anchor = judged.store.read(policies.get, 1).evidence["preference"]["anchor"]
    for name in ("helpful", "harmless", "overall"):
        assert kind["scores"][name] > rude["scores"][name]
        assert kind["preferred_to_first"][name] == 0.5 and rude["preferred_to_first"][name] < 0.4
        assert kind["spread"][name] == 0 < rude["spread"][name]
        above = (kind["scores"][name] - anchor[name]["mean"]) / anchor[name]["deviation"]
        assert kind["anchored"][name] == pytest.approx(above)
    # By default the reward is the overall score alone.
    of_overall = (kind["scores"]["overall"] - anchor["overall"]["mean"]) / anchor["overall"]["scale"]
    assert kind["reward"] == pytest.approx(of_overall, abs=1e-4)
    assert kind["tokens"] > 5 and not kind["cut"]


def test_a_version_can_be_named_and_a_reply_be_cut_off(judged: Tandem) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "What is 2 plus 3?"}]}]
    whole, cut = ask(judged, version="v1", messages=parts, replies=[KIND, KIND], ended=[True, False]).json()["replies"]
    assert whole["scores"] == ask(judged).json()["replies"][0]["scores"]
    assert cut["tokens"] == whole["tokens"] - 1 and cut["scores"] != whole["scores"]
    long = ask(judged, replies=["sum " * 400, KIND]).json()["replies"]
    assert [reply["cut"] for reply in long] == [True, False]


def test_what_has_no_preference_model_is_said_to_have_none(judged: Tandem) -> None:
    none = ask(judged, version="v0")
    assert (none.status_code, none.json()["code"], none.json()["param"]) == (400, "no_preference_model", "version")
    assert "best_of" not in none.text
    unknown = ask(judged, version="v9")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    gone = ask(judged, version="v2")
    assert (gone.status_code, gone.json()["code"]) == (422, "policy_invalid")
    assert "not in this home" in gone.json()["detail"]
    assert ask(judged).status_code == 200


def test_without_a_scorer_it_is_unavailable(quiet: Tandem) -> None:
    nothing = ask(quiet)
    assert (nothing.status_code, nothing.json()["code"]) == (400, "no_preference_model")
    made = Policy(
        version=1, state="serving", parent=None, path="policies/v1", digest="e" * 64, iteration_id="itr_1",
        dataset_digest=None, settings={}, seed=0, evidence={}, created_at=1.0,
    )  # fmt: skip
    quiet.store.write(lambda session: session.add(made))
    silent = ask(quiet)
    assert (silent.status_code, silent.json()["code"]) == (503, "scorer_unavailable")
    assert silent.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"replies": []}, 422), ({"replies": ["x"] * 65}, 422), ({"replies": ["x" * 100_001]}, 422),
        ({"replies": "x"}, 422), ({"replies": [None]}, 422), ({"ended": [True]}, 422), ({"ended": [1, 1]}, 422),
        ({"version": "3"}, 422), ({"version": 3}, 422), ({"messages": []}, 422), ({"reply": "x"}, 422),
        ({"messages": ["x"]}, 400), ({"messages": [{"role": "nobody", "content": "x"}]}, 400),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, 400),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(refusing: Tandem, changed: dict[str, Any], status: int) -> None:
    body = json.dumps({"messages": QUESTION, "replies": [KIND, RUDE]} | changed)
    with refusing.client() as client:
        answer = client.post("/v1/scores", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert status == 400 or answer.json()["code"] == "invalid_request"


def test_nothing_of_the_texts_is_kept(judged: Tandem, capfd: pytest.CaptureFixture[str]) -> None:
    assert ask(judged, replies=["quetzalcoatl " + KIND]).status_code == 200
    assert "quetzalcoatl" not in "".join(capfd.readouterr())
    assert (judged.settings.home / "scorer.log").stat().st_size
    for file in judged.settings.home.rglob("*"):
        assert not file.is_file() or b"quetzalcoatl" not in file.read_bytes(), file


HH = {"chosen": f"\n\nHuman: Hi\n\nAssistant: {KIND}", "rejected": f"\n\nHuman: Hi\n\nAssistant: {RUDE}"}
TRL = {
    "prompt": QUESTION,
    "chosen": [{"role": "assistant", "content": RUDE}],
    "rejected": [{"role": "assistant", "content": KIND}],
}
OPENAI = {
    "input": {"messages": QUESTION},
    "preferred_output": [{"role": "assistant", "content": KIND}],
    "non_preferred_output": [{"role": "assistant", "content": KIND}],
}
LISTED = {"prompt": "What is 2 plus 3?", "replies": [RUDE, KIND, "5"], "ended": [True, True, False], "from": "us"}
EMPTY = {"messages": QUESTION, "replies": []}
PAIRS = [HH, TRL, OPENAI]


def write(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(record if isinstance(record, str) else json.dumps(record) + "\n" for record in records))
    return path


def test_each_line_of_a_file_is_scored_and_pairs_are_held_against_their_label(judged: Tandem, tmp_path: Path) -> None:
    file = write(tmp_path / "replies.jsonl", [HH, "{\n", TRL, "\n", LISTED, EMPTY, OPENAI])
    ran = run(judged, "score", str(file), "--concurrency", "3")
    assert ran.returncode == 0, ran.stderr
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [one["line"] for one in found] == [1, 3, 5, 7]
    assert [one["record"] for one in found] == [HH, TRL, LISTED, OPENAI]
    assert {(one["version"], one["iteration"]) for one in found} == {("v1", "itr_1")}
    names = {"helpful", "harmless", "overall", "reward"}
    hh, trl, listed, same = found
    assert hh["agrees"] == dict.fromkeys(names, True) and trl["agrees"] == dict.fromkeys(names, False)
    assert same["agrees"] == dict.fromkeys(names) and same["chosen_preferred"]["overall"] == 0.5
    assert hh["chosen_preferred"]["overall"] > 0.6 > 0.4 > trl["chosen_preferred"]["overall"]
    assert len(listed["replies"]) == 3 and "agrees" not in listed
    direct = ask(judged, replies=LISTED["replies"], ended=LISTED["ended"]).json()["replies"]
    assert listed["replies"] == direct
    assert f"{file}:2: set aside: not JSON" in ran.stderr and f"{file}:6: set aside: `replies`" in ran.stderr
    assert "6 read, 4 scored, 2 set aside" in ran.stderr
    kept = ran.stderr.split("What was set aside is kept in ")[1].split("\n")[0]
    assert [json.loads(line)["number"] for line in Path(kept).read_text().splitlines()] == [2, 6]


def test_stdin_is_read_plain_or_gzipped(judged: Tandem, tmp_path: Path) -> None:
    content = "".join(json.dumps(pair) + "\n" for pair in PAIRS)
    plain = run(judged, "score", "-", "--version", "v1", prompts=content)
    assert plain.returncode == 0 and len(plain.stdout.splitlines()) == 3, plain.stderr
    where = ("--home", judged.settings.home, "--url", judged.url, "--key", judged.secrets["operate"])
    process = start("score", "-", *where)
    assert process.stdin is not None
    process.stdin.buffer.write(gzip.compress(content.encode()))
    packed, _ = process.communicate(timeout=PATIENCE_S)
    assert packed == plain.stdout


def test_what_holds_for_every_line_ends_it_at_once(judged: Tandem, tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.jsonl", PAIRS)
    for version, exit_code, said in (
        ("v0", 2, "no iteration"), ("v2", 2, "not in this home"), ("v9", 3, "no policy version 'v9'"),
        ("3", 2, "not a policy version"),
    ):  # fmt: skip
        ran = run(judged, "score", str(file), "--version", version)
        assert (ran.returncode, ran.stdout) == (exit_code, ""), ran.stderr
        assert said in ran.stderr and ran.stderr.count("\n") == 1
    missing = run(judged, "score", str(tmp_path / "gone.jsonl"))
    assert missing.returncode == 2 and "cannot be read" in missing.stderr


def test_an_interruption_leaves_whole_lines(judged: Tandem, tmp_path: Path) -> None:
    file = write(tmp_path / "many.jsonl", [HH | {"at": number, "pad": "x" * 5_000} for number in range(400)])
    out = tmp_path / "scored.jsonl"
    where = ("--home", judged.settings.home, "--url", judged.url, "--key", judged.secrets["operate"])
    with out.open("wb") as stdout:
        process = start("score", file, *where, stdout=stdout)
        wait_for(lambda: out.read_bytes().count(b"\n") >= 5, PATIENCE_S, "five lines", by=process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    content = out.read_bytes()
    assert content.endswith(b"\n")
    ats = [json.loads(line)["record"]["at"] for line in content.splitlines()]
    assert 5 <= len(ats) < 400 and ats == list(range(len(ats)))
    assert f"interrupted; {len(ats)} lines are scored" in said


def test_at_a_terminal_a_table_tells_how_often_it_agrees(judged: Tandem, tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.jsonl", PAIRS)
    with at_terminal(judged, "score", str(file)) as terminal:
        terminal.wait_for("LINE")
        terminal.wait_for("Gladly! 2 plus 3 is 5.")
        terminal.wait_for("AGREES")
        # One of three, and half of the one whose replies are the same.
        terminal.wait_for("0.500")
        terminal.wait_for("3 read, 3 scored, 0 set aside")
