"""`tandem policies` and `tandem learn` against a real API process; what engines and learners would do is left out or
written into the record by the test.
"""

import contextlib
import io
import json
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from deploy.command.api import Event
from deploy.command.iterations import stage
from deploy.command.learn import show
from feedback.schema import Base
from feedback.store import Store, iterations, keys, policies, raters, votes
from tests.deploy.api_process import api_process, running_at
from tests.deploy.command_line import Tandem, in_process, start
from tests.deploy.homes import add_version
from tests.feedback.record import add_comparison, judgement, sample
from tests.records import empty_record
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose API runs, found by its files alone: v0 is known, and a key. Its first record is kept beside it."""
    home = tmp_path_factory.mktemp("home")
    store = empty_record(home / "record.db")
    _, secret = store.write(keys.create, "operate")
    (home / "operator.key").write_text(secret)
    store.write(policies.register_start, "policies/v0", "0" * 64, {"steps": 12})
    store.close()
    shutil.copy(home / "record.db", home / "begun.db")
    with api_process(home) as url, running_at(home, url):
        yield home


@pytest.fixture
def home(served: Path) -> Path:
    """The same without what earlier tests did to it: the record as it began, but for what the API process holds there,
    and what was decided, which nobody can take back."""
    for folder in ("datasets", "iterations", "policies"):
        shutil.rmtree(served / folder, ignore_errors=True)
    with contextlib.closing(sqlite3.connect(served / "record.db")) as record:
        record.execute("ATTACH ? AS begun", (str(served / "begun.db"),))
        for table in Base.metadata.tables.keys() - {"api_processes", "leases", "audit"}:
            record.execute(f"DELETE FROM main.{table}")
            record.execute(f"INSERT INTO main.{table} SELECT * FROM begun.{table}")
        record.commit()
    return served


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{home / 'record.db'}")
    yield store
    store.close()


@pytest.fixture
def tandem(capfd: pytest.CaptureFixture[str], home: Path) -> Tandem:
    tandem = in_process(capfd)
    return lambda *arguments: tandem(*arguments, "--home", home)


def test_versions_are_listed_and_shown(tandem: Tandem) -> None:
    (listed,) = json.loads(tandem("policies", "list", "--json").out)
    assert (listed["version"], listed["state"]) == ("v0", "serving")
    heading, row = tandem("policies", "list").out.splitlines()
    assert heading.split()[:3] == ["VERSION", "STATE", "LOADED"]
    assert row.split()[:3] == ["v0", "serving", "no"]
    assert json.loads(tandem("policies", "show", "v0", "--json").out)["digest"] == "0" * 64
    shown = tandem("policies", "show", "v0")
    assert shown.out.startswith("version: v0\n") and "settings" not in shown.out
    assert shown.err == "It serves; there is no earlier version to roll back to.\n", "the start was not trained"
    assert "settings:\n  steps: 12\n" in tandem("policies", "show", "v0", "--all").out


def test_votes_are_found_and_written_out_by_the_same_words(tandem: Tandem, store: Store, tmp_path: Path) -> None:
    pair = add_comparison(store, sample("Red."), sample("Blue.", 7))
    for rater, said in {"eve": "0", "fay": "1"}.items():
        store.write(votes.put, pair, judgement(said), key_id="key_a", sees_all=True, rater=rater)
    eve = store.read(raters.find, "key_a", "eve")
    asked = ("--text", "blue", "--version", "v7", "--disputed", "--rater", eve, "--since", "2020-01-01T00:00:00Z")
    (listed,) = json.loads(tandem("votes", "list", *asked, "--json").out)
    assert (listed["rater"], listed["preferred"]) == (eve, 0)
    assert [row.split()[-2] for row in tandem("votes", "list", *asked).out.splitlines()] == ["RATER", eve]
    assert len(json.loads(tandem("votes", "list", "--text", "blue", "--json").out)) == 2
    out = tmp_path / "pairs.jsonl"
    assert tandem("votes", "export", out, "--format", "trl", *asked).exit_code == 0
    assert [json.loads(line)["chosen"][0]["content"] for line in out.read_text().splitlines()] == ["Red."]
    east = datetime.fromtimestamp(listed["created"], timezone(timedelta(hours=5)))
    later = ("--since", (east + timedelta(seconds=2)).isoformat())
    assert len(json.loads(tandem("votes", "list", "--since", east.isoformat(), "--json").out)) == 2
    for all_of_them in ("1900-01-01", "10m"):
        assert len(json.loads(tandem("votes", "list", "--since", all_of_them, "--json").out)) == 2
    for nobody in (later, ("--until", "2020-01-01"), ("--preferred", "tie")):
        assert json.loads(tandem("votes", "list", *asked, *nobody, "--json").out) == []
    for wrong, said in (
        (("list", "--preferred", "left"), "'left' is not a preference"),
        (("list", "--since", "foo"), "'foo' is no time; write 45m"),
        (("export", "--format", "trl", "--until", "foo"), "'foo' is no time; write 45m"),
        (("list", "--version", "first"), "first is not a policy version"),
        (("export", "--format", "red-team", "--text", "blue"), "all together"),
    ):
        ran = tandem("votes", *wrong)
        assert (ran.exit_code, ran.err.count("\n")) == (2, 1) and said in ran.err


def test_the_votes_of_a_version_and_what_one_of_them_changed(tandem: Tandem, store: Store) -> None:
    assert json.loads(tandem("policies", "votes", "v0", "--json").out) == []
    whose = {"key_id": "key_a", "sees_all": True, "rater": "ann"}
    vote = store.write(votes.put, add_comparison(store), judgement("1", 3), **whose)
    assert tandem("votes", "show", "vote_unknown").exit_code == 3
    shown = json.loads(tandem("votes", "show", vote.id, "--json").out)
    assert (shown["preferred"], shown["compared"], shown["versions"]) == (1, ["v0", "v1"], [])
    assert "history:\n  - revision: 1\n    preferred: 1\n" in tandem("votes", "show", vote.id).out


def test_promoting_what_serves_changes_nothing(tandem: Tandem) -> None:
    wait_for(lambda: tandem("policies", "promote", "v0").exit_code == 0, 60, "the promotion")
    assert tandem("policies", "promote", "v0").out == "v0 serves already\n"
    assert json.loads(tandem("policies", "promote", "v0", "--json").out)["changed"] is False


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["show", "v9"], 3, "no policy version 'v9'; `tandem policies list`"),
        (["promote", "v9"], 3, "no policy version 'v9'; `tandem policies list`"),
        (["show", "nine"], 2, "is not a policy version"),
        (["show", "v0?limit=1"], 2, "v0?limit=1 is not a policy version"),
        (["votes", ".."], 2, ".. is not a policy version"),
        (["promote", "v9", "--force"], 2, "needs a reason"),
        (["rollback"], 1, "no earlier version"),
        (["list", "--key", "tdm_wrong_key"], 1, "unknown or revoked"),
    ],
)
def test_a_refusal_is_one_line(tandem: Tandem, arguments: list[str], exit_code: int, said: str) -> None:
    ran = tandem("policies", *arguments)
    assert ran.exit_code == exit_code
    assert said in ran.err
    assert ran.out == ""
    assert ran.err.count("\n") == 1


def test_chat_renders_openai_s_form_of_error(tandem: Tandem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n"))
    ran = tandem("chat", "--model", "another")
    assert ran.exit_code == 3
    assert "no model 'another'" in ran.err
    assert ran.err.count("\n") == 1


def test_learn_follows_to_a_candidate(tandem: Tandem, store: Store) -> None:
    with learner(store, succeed):
        ran = tandem("learn")
    assert ran.exit_code == 0
    assert ran.out.startswith("v1 is a candidate; `tandem policies show v1` says")
    assert "ppo_step: step 1, reward 0.25, kl_nats 0.125" in ran.err


def test_each_stage_has_a_bar_of_its_own_and_short_steps_only_move_it() -> None:
    """A time that is left by the steps of the stage before says nothing; evaluation has none at all."""
    said = io.StringIO()
    with Progress(console=Console(file=said)) as bar, contextlib.redirect_stderr(said):
        for kind, data in (
            ("stage", {"stage": "preference"}),
            ("preference_step", {"step": 3, "steps": 4, "loss": 0.5}),
            ("watch_step", {"step": 1, "steps": 2, "loss": 0.5}),
        ):
            show(Event(kind, data, None), bar)
        assert [(row.description, row.completed, row.total) for row in bar.tasks] == [("preference", 1, 2)]
        show(Event("stage", {"stage": "evaluate"}, None), bar)
        assert [(row.description, row.completed, row.total) for row in bar.tasks] == [("evaluate", 0, None)]
    assert "watch_step" not in said.getvalue() and "loss" not in said.getvalue()


def test_learn_ends_with_1_when_the_iteration_fails(tandem: Tandem, store: Store) -> None:
    with learner(store, fail):
        ran = tandem("learn", "--json")
    assert ran.exit_code == 1
    assert json.loads(ran.out)["error"] == "no counted vote"
    with learner(store, fail):
        ran = tandem("learn")
    assert "failed: no counted vote" in ran.err


def test_an_iteration_is_cancelled_while_it_is_followed(tandem: Tandem, home: Path, store: Store) -> None:
    assert tandem("iterations", "cancel").exit_code == 3
    with learner(store, be_cancelled):
        ran = tandem("learn")
    assert ran.exit_code == 1
    assert ran.err.endswith("was cancelled\n")
    queued = tandem("learn", "--detach").out.strip()
    listed = json.loads(tandem("iterations", "list", "--json").out)
    assert (listed[0]["id"], listed[0]["state"], listed[1]["state"]) == (queued, "queued", "cancelled")
    assert tandem("iterations", "cancel", "--reason", "wrong settings").err == f"iteration {queued} is cancelled\n"
    heading, newest, *_ = tandem("iterations", "list").out.splitlines()
    assert heading.split()[:3] == ["ITERATION", "STATE", "STAGE"]
    assert newest.split()[:2] == [queued, "cancelled"]
    assert "wrong settings" in tandem("audit", "list").out


def test_how_far_a_running_iteration_is_in_its_stage() -> None:
    running = {"state": "running", "stage": "ppo", "progress": 0.254}
    assert stage(running) == "ppo 25%"
    assert stage(running | {"progress": 0.0}) == "ppo"
    assert stage(running | {"state": "succeeded", "progress": 1.0}) == "ppo"
    assert stage({"state": "queued", "stage": None, "progress": 0.0}) is None


def test_learn_follows_what_is_under_way(tandem: Tandem, home: Path, store: Store) -> None:
    queued = tandem("learn", "--detach").out.strip()
    assert tandem("learn", "--detach").out.strip() == queued
    process = start("learn", "--json", "--home", home)
    assert process.stderr is not None
    assert f"{queued} is queued already, started by operator" in process.stderr.readline()
    with learner(store, fail):
        out, _ = process.communicate(timeout=120)
    assert (process.returncode, json.loads(out)["id"]) == (1, queued)


def test_ctrl_c_stops_only_the_following(home: Path, store: Store) -> None:
    process = start("learn", "--home", home)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("iteration ")
    wait_for(lambda: "queued" in process.stderr.readline(), 60, "the first event")  # type: ignore[union-attr]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "goes on" in errors
    assert "Traceback" not in errors
    queued = store.read(iterations.active)
    assert queued is not None
    with learner(store, fail):
        pass


class learner:  # noqa: N801
    """Takes the next iteration as a learner would, in a thread, and ends it by `ending`."""

    def __init__(self, store: Store, ending: Callable[[Store, str, int], None]) -> None:
        self._store, self._ending = store, ending
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join(timeout=120)
        assert not self._thread.is_alive()

    def _work(self) -> None:
        wait_for(lambda: self._store.read(iterations.active) is not None, 60, "an iteration")
        iteration = self._store.read(iterations.active)
        assert iteration is not None
        claimed = self._store.write(iterations.claim, iteration.id, "test", 60.0, max_attempts=5)
        assert claimed is not None
        self._ending(self._store, iteration.id, claimed[1])


def succeed(store: Store, iteration_id: str, epoch: int) -> None:
    store.write(iterations.advance, iteration_id, epoch, stage="ppo", progress=0.0)
    step = {"step": 1, "steps": 2, "reward": 0.25, "kl_nats": 0.125, "scores": {"helpful": 1.0}}
    store.write(iterations.tell, iteration_id, epoch, "ppo_step", step)
    store.write(iterations.succeed, iteration_id, epoch, 1)


def fail(store: Store, iteration_id: str, epoch: int) -> None:
    store.write(iterations.fail, iteration_id, epoch, "no counted vote")


def be_cancelled(store: Store, iteration_id: str, epoch: int) -> None:
    store.write(iterations.cancel, iteration_id, "", "test")


def test_a_version_is_shown_with_what_the_gate_says_and_what_can_be_done(
    tandem: Tandem, store: Store, home: Path
) -> None:
    add_version(store, home, 1)
    bad = {"win_rate": {"value": 0.2, "interval": [0.1, 0.3], "count": 60}}
    store.write(policies.evaluated_again, 1, bad, actor="test")
    shown = tandem("policies", "show", "v1")
    (rule,) = [line for line in shown.out.splitlines() if line.startswith("win_rate_upper >= 0.5")]
    assert rule.split()[3:9] == ["fail", "0.300", "0.500", "0.100", "to", "0.300"]
    assert rule.endswith("by a model; the interval is over prompts, as if it were right")
    assert "The gate refuses it: win_rate_upper >= 0.5" in shown.err and "--force" in shown.err
    assert "`tandem evaluate v1`" in shown.err
    refused = tandem("policies", "promote", "v1")
    assert refused.exit_code == 1 and "win_rate_upper >= 0.5" in refused.err


def test_what_serves_is_shown_with_what_a_rollback_leads_to(tandem: Tandem, store: Store, home: Path) -> None:
    add_version(store, home, 1)
    for version in (1, 0):
        store.write(policies.set_serving, version, kind="promote", reason="", force=False, actor="test")
    assert "`tandem policies rollback --instead-of v0 --reason" in tandem("policies", "show", "v0").err
    assert "goes back to v1." in tandem("policies", "show", "v0").err
    overtaken = tandem("policies", "rollback", "--instead-of", "v1")
    assert overtaken.exit_code == 1 and "v1 does not serve any more: somebody else changed it" in overtaken.err
    assert json.loads(tandem("policies", "show", "v1", "--json").out)["rollback_to"] is None
