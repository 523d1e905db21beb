"""Where a version's weights are, also when what holds them is away or silent."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feedback import policy_weights
from feedback.errors import PolicyInvalid, RecordUnavailable, StorageUnavailable
from feedback.settings import ServeSettings, Settings, load_settings
from feedback.store import policies
from serve.engine import policy_folders
from serve.engine.policy_folders import PolicyFolder, PolicyFolders, Probe
from serve.record import Record
from tests.deploy.homes import make_home, refuse_system_messages
from tests.records import empty_record_of

DIGEST = "d" * 64


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(
        home=tmp_path / "home", policies_url=f"file://{tmp_path}/storage", engine={"start_timeout_s": 0.3}
    )


@pytest.fixture
def record(settings: Settings) -> Iterator[Record]:
    store = empty_record_of(settings)
    store.write(policies.register_start, "policies/v0", DIGEST, {})
    record = Record(store)
    yield record
    record.close()


async def test_a_storage_that_says_nothing_is_not_waited_for_for_ever(
    tmp_path: Path, settings: Settings, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = tmp_path / "storage" / DIGEST / "manifest.json"
    silent.parent.mkdir(parents=True)
    # Whoever reads it waits for a writer.
    os.mkfifo(silent)
    brought = list[str]()

    def bring(settings: Settings, path: str, digest: str) -> Path:
        brought.append(path)
        return policy_weights.bring(settings, path, digest)

    monkeypatch.setattr(policy_folders, "_bring", bring)
    folders = PolicyFolders(settings, record)
    try:
        for _ in range(2):
            with pytest.raises(StorageUnavailable, match="v0"):
                await folders.of(0)
        assert len(brought) == 1, "a second thread waits for the same"
    finally:
        # Whoever waits for a writer gets one, and who has not come to it yet finds nothing.
        os.close(os.open(silent.rename(silent.with_name("gone")), os.O_RDWR))


async def test_a_version_that_was_found_before_is_found_without_the_record(settings: Settings, record: Record) -> None:
    (settings.policies_dir / "v0").mkdir(parents=True)
    folders = PolicyFolders(settings, record)
    found = await folders.of(0)
    record.store.close()
    database = settings.home / "record.db"
    database.rename(settings.home / "away.db")
    database.mkdir()
    with pytest.raises(RecordUnavailable):
        await PolicyFolders(settings, record).of(0)
    assert await folders.of(0) == found


async def test_a_version_whose_chats_could_not_begin_with_the_system_prompt_is_not_to_be_served(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, serve=ServeSettings(system_prompt="Be kind."))
    store = make_home(settings, versions=2)
    refuse_system_messages(settings, 1)
    record = Record(store)
    folders = PolicyFolders(settings, record)
    assert (await folders.of(0)).version == 0
    with pytest.raises(PolicyInvalid, match=r"system_prompt cannot be had with v1"):
        await folders.of(1)
    assert (await PolicyFolders(Settings(home=tmp_path), record).of(1)).version == 1
    record.close()


@pytest.mark.parametrize(
    "item",
    [
        {"tokens": [1, 2, 3], "prompt_length": 1},
        {"tokens": [1, 2, 3], "prompt_length": 1, "logprobs": [-1.0]},
        {"tokens": [1, 2, 3], "prompt_length": 0, "logprobs": [-1.0] * 3},
        {"tokens": [1, 2, 3], "prompt_length": 4, "logprobs": []},
        {"tokens": [1, 2, 3], "prompt_length": 1, "logprobs": ["-1", -1.0]},
        {"tokens": [1, 2.5, 3], "prompt_length": 1, "logprobs": [-1.0, -1.0]},
        {"tokens": [1, 2, 3], "prompt_length": 1.0, "logprobs": [-1.0, -1.0]},
        {"tokens": "abc", "prompt_length": 1, "logprobs": [-1.0, -1.0]},
        "no item",
    ],
)
async def test_what_is_no_probe_speaks_against_its_version(
    tmp_path: Path, settings: Settings, record: Record, item: Any
) -> None:
    good = {"tokens": [1, 2, 3], "prompt_length": 1, "logprobs": [-1, -2.5]}
    folders, policy = PolicyFolders(settings, record), PolicyFolder(0, tmp_path, DIGEST)
    (tmp_path / "probe.json").write_text(json.dumps({"items": [good]}))
    assert await folders.probes(policy) == [Probe([1, 2, 3], 1, [-1, -2.5])]
    (tmp_path / "probe.json").write_text(json.dumps({"items": [good], "dtype": "bfloat16"}))
    assert await folders.probes(policy) == [Probe([1, 2, 3], 1, [-1, -2.5], "bfloat16")]
    (tmp_path / "probe.json").write_text(json.dumps({"items": [good, item]}))
    with pytest.raises(PolicyInvalid, match="cannot be read"):
        await folders.probes(policy)
