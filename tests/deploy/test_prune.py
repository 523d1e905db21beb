"""Retention: what is not kept goes, what is in use never does."""

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from deploy.pruning import prune
from feedback.errors import Conflict, LeaseLost
from feedback.schema import Dataset, DatasetVote, Vote
from feedback.settings import RetentionSettings, Settings
from feedback.store import Store, iterations, leases, policies, traffic
from feedback.store.traffic import Shares
from serve.engine.fence import Fence
from serve.record import Record
from tests.deploy.command_line import in_process
from tests.deploy.homes import lease, make_home, promote, stand_on


@pytest.fixture
def settings(settings: Settings) -> Settings:
    keep = RetentionSettings(versions=1, iterations=1, datasets=1)
    return settings.model_copy(update={"retention": keep})


def weights(settings: Settings) -> set[str]:
    return {folder.name for folder in (settings.home / "policies").iterdir()}


def folders_by_version(store: Store, settings: Settings) -> set[int]:
    """Versions whose iteration's folder is there."""
    rows = store.read(policies.list_all)
    return {
        row.version for row in rows if row.iteration_id and (settings.home / "iterations" / row.iteration_id).is_dir()
    }


def test_what_serves_and_the_whole_way_back_stay(settings: Settings) -> None:
    store = make_home(settings, versions=8)
    for version in (2, 4, 5):
        promote(store, version)
    pruned = prune(store, settings)
    # v7 is the newest; 5 serves, 4 and 2 and 0 are the way back.
    assert weights(settings) == {"v0", "v2", "v4", "v5", "v7"}
    assert sorted(pruned.versions) == ["v1", "v3", "v6"]
    assert folders_by_version(store, settings) == {2, 4, 5, 7}
    assert pruned.bytes > 0
    # Every step back finds its weights.
    way_back = []
    for _ in range(3):
        target = store.read(policies.rollback_target)
        assert target is not None
        promote(store, target, kind="rollback")
        way_back.append(target)
        assert (settings.home / "policies" / f"v{target}").is_dir()
        prune(store, settings)
    assert way_back == [4, 2, 0]
    store.close()


def test_no_more_rollbacks_are_kept_than_are_wanted(settings: Settings) -> None:
    """Or each promotion's weights would stay for ever."""
    keep = settings.retention.model_copy(update={"rollbacks": 2})
    settings = settings.model_copy(update={"retention": keep})
    store = make_home(settings, versions=8)
    for version in (1, 2, 4, 5, 6):
        promote(store, version)
    prune(store, settings)
    # 6 serves, 5 and 4 are two steps back; 7 is the newest.
    assert weights(settings) == {"v0", "v4", "v5", "v6", "v7"}
    assert folders_by_version(store, settings) == {4, 5, 6, 7}
    store.close()


def test_the_challenger_stays(settings: Settings) -> None:
    store = make_home(settings, versions=4)
    store.write(traffic.put, Shares(1, 0.1, 0.5))
    prune(store, settings)
    assert weights(settings) == {"v0", "v1", "v3"}
    store.close()


def test_what_an_adapter_that_stays_stands_on_stays(settings: Settings) -> None:
    store = make_home(settings, versions=6)
    for adapter, base in ((3, 1), (4, 2)):
        stand_on(store, settings, adapter, base)
    promote(store, 4)
    prune(store, settings)
    assert weights(settings) == {"v0", "v2", "v4", "v5"}
    assert folders_by_version(store, settings) == {2, 4, 5}
    store.close()


def test_training_states_of_ended_iterations_go_and_their_evidence_stays(settings: Settings) -> None:
    store = make_home(settings, versions=2)
    going = store.write(iterations.start, trigger="operator", seed=1, settings={})
    checkpoint = settings.home / "iterations" / going.id / "ppo.state.safetensors"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"x")
    pruned = prune(store, settings)
    assert len(pruned.training_states) == 1
    assert checkpoint.exists()
    (kept,) = (settings.home / "iterations").glob("*/evaluation.json")
    assert not (kept.parent / "ppo.state.safetensors").exists()
    store.close()


def fill_datasets(store: Store, *, weight: float | None) -> None:
    """What each dataset holds, as the record knows it since there are labels, or (`weight` None) knew it before."""

    def fill(session: Session) -> None:
        vote_id = session.scalars(select(Vote.id).limit(1)).one()
        for digest in session.scalars(select(Dataset.digest)):
            session.add(DatasetVote(dataset_digest=digest, vote_id=vote_id, revision=1, split="train", weight=weight))

    store.write(fill)


def frozen_datasets(settings: Settings) -> set[str]:
    return {folder.name for folder in (settings.home / "datasets").iterdir()}


def test_datasets_go_that_no_kept_version_was_made_from(settings: Settings) -> None:
    store = make_home(settings, versions=8)
    fill_datasets(store, weight=1.0)
    for version in (2, 5):
        promote(store, version)
    left = settings.home / "datasets" / ".digest9.removed"
    left.mkdir()
    pruned = prune(store, settings)
    # v7 is the newest; 5 serves, 2 and 0 are the way back.
    assert frozen_datasets(settings) == {"digest2", "digest5", "digest7"}
    assert pruned.datasets == ["digest1", "digest3", "digest4", "digest6"]
    store.close()


def test_datasets_of_the_newest_iterations_stay_and_of_one_that_goes_on(settings: Settings) -> None:
    store = make_home(settings, versions=6)
    fill_datasets(store, weight=1.0)
    keep = settings.retention.model_copy(update={"datasets": 3})
    settings = settings.model_copy(update={"retention": keep})
    # It learns from votes that an early one learnt from.
    going = store.write(iterations.start, trigger="operator", seed=1, settings={})
    prune(store, settings)
    assert len(frozen_datasets(settings)) == 5, "it is about to freeze, nobody knows which votes"
    claimed = store.write(iterations.claim, going.id, "test", 60.0, 5)
    assert claimed is not None
    store.write(iterations.freeze, going.id, claimed[1], "digest1")
    prune(store, settings)
    assert frozen_datasets(settings) == {"digest1", "digest4", "digest5"}
    store.close()


def test_a_dataset_that_cannot_be_written_again_stays(settings: Settings) -> None:
    store = make_home(settings, versions=4)
    fill_datasets(store, weight=None)
    assert prune(store, settings).datasets == []
    assert frozen_datasets(settings) == {"digest1", "digest2", "digest3"}
    store.close()


def test_rows_stay_and_a_second_pruning_finds_nothing(settings: Settings) -> None:
    store = make_home(settings, versions=4)
    prune(store, settings)
    rows = store.read(policies.list_all)
    assert [row.version for row in rows] == [0, 1, 2, 3]
    again = prune(store, settings)
    assert (again.versions, again.iterations, again.bytes) == ([], [], 0)
    store.close()


def test_a_dry_run_changes_nothing(settings: Settings) -> None:
    store = make_home(settings, versions=4)
    before = weights(settings)
    assert prune(store, settings, dry_run=True).versions == ["v2", "v1"]
    assert weights(settings) == before
    store.close()


def test_not_while_the_engines_are_being_changed(settings: Settings) -> None:
    store = make_home(settings, versions=4)
    epoch = lease(store, "engines")
    assert epoch is not None
    with pytest.raises(Conflict):
        prune(store, settings)
    assert len(weights(settings)) == 4
    store.write(leases.release, "engines", epoch)
    prune(store, settings)
    assert lease(store, "engines") is not None, "the lease is handed back"
    store.close()


def test_what_a_promotion_may_load_by_now_is_not_removed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it stood still in the midst of it until its lease had run out."""
    store = make_home(settings, versions=5)
    removed = list[Path]()

    def remove_and_stand_still(path: Path) -> None:
        removed.append(path)
        store.write(lambda session: setattr(leases.lock(session, leases.ENGINES), "expires_at", 0.0))
        assert lease(store, "engines") is not None

    monkeypatch.setattr("deploy.pruning._remove", remove_and_stand_still)
    with pytest.raises(LeaseLost):
        prune(store, settings)
    assert len(removed) == 1
    assert store.read(leases.held, leases.ENGINES), "what another holds is not handed back"
    store.close()


async def test_a_promotion_waits_for_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_home(settings, versions=5)
    record = Record(store)
    promoting = list[asyncio.Task[int]]()

    async def promote_meanwhile() -> int:
        async with Fence(record, "api_1").held() as epoch:
            return epoch

    async def ask() -> None:
        promoting.append(asyncio.create_task(promote_meanwhile()))
        await asyncio.wait(promoting, timeout=0.1)
        assert not promoting[0].done()

    loop = asyncio.get_running_loop()

    def remove(_: Path) -> None:
        if not promoting:
            asyncio.run_coroutine_threadsafe(ask(), loop).result(60)

    monkeypatch.setattr("deploy.pruning._remove", remove)
    await asyncio.to_thread(prune, store, settings)
    assert await promoting[0] > 0
    record.close()


def test_a_killed_pruning_leaves_half_of_nothing_and_what_it_left_goes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_home(settings, versions=3)

    def killed(path: Path) -> None:
        (path / "config.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("shutil.rmtree", killed)
        prune(store, settings)
    assert weights(settings) == {"v0", ".v1.removed", "v2"}
    prune(store, settings)
    assert weights(settings) == {"v0", "v2"}
    store.close()


def ended_process() -> int:
    """The number of a process that is gone."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_what_a_killed_freezing_left_goes_when_it_is_old(settings: Settings) -> None:
    store = make_home(settings, versions=2)
    folder = settings.home / "datasets"
    (folder / "digest").mkdir(parents=True, exist_ok=True)
    gone, lives = ended_process(), os.getppid()
    old = [folder / f".{gone}.unfinished", folder / "digest" / f".votes.jsonl.{gone}.unfinished"]
    kept = [folder / f".{lives}.unfinished", folder / f".{gone}0.unfinished", folder / "digest" / "votes.jsonl"]
    for file in (*old, *kept):
        file.write_bytes(b"{}")
        if file != kept[1]:
            os.utime(file, (0, 0))
    prune(store, settings, dry_run=True)
    assert all(file.exists() for file in old)
    prune(store, settings)
    assert not any(file.exists() for file in old)
    assert all(file.exists() for file in kept)
    store.close()


def test_a_path_that_leads_elsewhere_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    store = make_home(settings, versions=4)
    outside = tmp_path / "outside"
    outside.mkdir()

    def lead_away(session: object) -> None:
        policies.get(session, 1).path = "../outside"  # type: ignore[arg-type]

    store.write(lead_away)
    with pytest.raises(Conflict, match="left alone"):
        prune(store, settings)
    assert outside.is_dir()
    store.close()


def test_by_the_command(settings: Settings, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    make_home(settings, versions=8).close()
    tandem = in_process(capfd)
    monkeypatch.setenv("TANDEM_RETENTION__VERSIONS", "2")
    said = json.loads(tandem("prune", "--dry-run", "--json", "--home", settings.home).out)
    assert (said["dry_run"], len(said["versions"])) == (True, 5)
    ran = tandem("prune", "--home", settings.home)
    assert (ran.exit_code, ran.out) == (0, "")
    assert "removed the weights of v1" in ran.err
    assert weights(settings) == {"v0", "v6", "v7"}
