"""Weights staged beside those that serve, in real engines: exact when they have changed places, without trace when not.

One engine is changed; another is started anew with each policy that it is compared with.
"""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.numpy import load_file, save_file

from feedback.errors import EngineUnavailable, PolicyInvalid
from feedback.settings import load_settings
from feedback.temporary_folder import MARK, PREFIX
from learner.policy import load_policy, save_policy
from serve.engine.client import EngineClient
from serve.engine.launcher_client import LauncherClient
from serve.engine.launcher_protocol import SERVED_NAME, engine_socket
from serve.engine.policy_folders import Probe
from serve.engine.proof import FLOAT32_TOLERANCE_NATS, prove
from serve.engine.transfer import EngineLost
from tests.serve.chats import chat
from tests.serve.conftest import LauncherProcess

pytestmark = pytest.mark.engine

TIMEOUT_S = 60.0
MESSAGES = [{"role": "user", "content": "Tell me how to cut a cake. " * 12}]
GREEDY = {"temperature": 0, "max_tokens": 24, "ignore_eos": True, "logprobs": True, "messages": MESSAGES}


class Engines:
    """Slot 0 is changed, slot 1 only ever started anew."""

    def __init__(self, home: Path) -> None:
        self.settings = load_settings(home=home)
        self.process = LauncherProcess(self.settings)
        self.launcher = LauncherClient(self.settings.run_dir)
        self.changed, self.fresh = (EngineClient(engine_socket(self.settings.run_dir, slot)) for slot in (0, 1))

    async def start(self, slot: int, folder: Path) -> None:
        client = (self.changed, self.fresh)[slot]
        while True:
            try:
                await self.launcher.restart(slot, folder)
                break
            except EngineUnavailable:
                assert self.process.process.poll() is None
                await asyncio.sleep(0.3)
        while True:
            try:
                await client.weight_version(TIMEOUT_S)
                return
            except EngineLost:
                await asyncio.sleep(0.3)

    async def change(self, folder: Path) -> None:
        """Staged, and in place."""
        assert await self.changed.stage(folder, TIMEOUT_S) is None
        await self.changed.drain(None, TIMEOUT_S)
        assert await self.changed.commit(TIMEOUT_S)

    async def engine(self) -> psutil.Process:
        """The process of slot 0 that holds the weights: the server's child."""
        pid = (await self.launcher.status())[0].pid
        assert pid is not None
        return max(psutil.Process(pid).children(recursive=True), key=lambda child: child.memory_info().rss)


@pytest.fixture(scope="module")
def engines_process(tmp_path_factory: pytest.TempPathFactory) -> Any:
    engines = Engines(tmp_path_factory.mktemp("staging") / "home")
    yield engines
    engines.process.stop()


@pytest.fixture
async def engines(engines_process: Engines, policy_folders: Path) -> AsyncIterator[Engines]:
    """With v0 in slot 0: changed to it as the first test holds to be as good as started with it."""
    try:
        unfit = await engines_process.changed.stage(policy_folders / "v0", TIMEOUT_S)
    except EngineLost:
        unfit = "it does not run"
    if unfit:
        await engines_process.start(0, policy_folders / "v0")
    else:
        await engines_process.changed.drain(None, TIMEOUT_S)
        assert await engines_process.changed.commit(TIMEOUT_S)
    yield engines_process


async def written(client: EngineClient) -> Any:
    """Greedy tokens and their log-probabilities, one reply alone."""
    transfer = await client.chat(chat(**GREEDY, return_token_ids=True) | {"model": "policy"}, "test")
    answer = json.loads(await transfer.wait_for_end())
    assert transfer.status == 200, answer
    choice = answer["choices"][0]
    logprobs = [entry["logprob"] for entry in choice["logprobs"]["content"]]
    assert len(choice["token_ids"]) == len(logprobs) == GREEDY["max_tokens"]
    return choice["token_ids"], logprobs


async def test_what_was_staged_is_as_in_an_engine_started_with_it(engines: Engines, policy_folders: Path) -> None:
    """To the bit, with the same prompt cached by another version before."""
    seen = []
    for version in ("v1", "v2", "v0"):
        await engines.change(policy_folders / version)
        await engines.start(1, policy_folders / version)
        seen.append(await written(engines.changed))
        assert seen[-1] == await written(engines.fresh)
    await engines.change(policy_folders / "v1")
    assert await written(engines.changed) == seen[0] and seen[0] not in seen[1:]


async def test_the_engines_process_groups_share_a_thread(engines: Engines) -> None:
    engine = await engines.engine()
    names = [Path(f"/proc/{engine.pid}/task/{thread.id}/comm").read_text() for thread in engine.threads()]
    assert sum(name.startswith("gloo") for name in names) == 1


async def test_a_reload_works_after_it_and_it_after_a_reload(engines: Engines, policy_folders: Path) -> None:
    await engines.change(policy_folders / "v1")
    by_staging = await written(engines.changed)
    for version in ("v2", "v1"):
        await engines.changed.drain(None, TIMEOUT_S)
        await engines.changed.reload(policy_folders / version, TIMEOUT_S)
    assert await written(engines.changed) == by_staging
    await engines.change(policy_folders / "v2")
    await engines.change(policy_folders / "v1")
    assert await written(engines.changed) == by_staging


async def test_an_engine_that_was_killed_leaves_nothing_in_the_temporary_folder(
    engines: Engines, policy_folders: Path
) -> None:
    opened = Path(f"/proc/{engines.process.process.pid}/fd")
    (folder,) = {held for held in map(Path.readlink, opened.iterdir()) if held.name.startswith(PREFIX)}

    def files() -> set[Path]:
        return {path for path in (folder / "0").iterdir() if path.is_file()}

    of_the_killed = files()
    assert of_the_killed
    os.kill((await engines.launcher.status())[0].pid or 0, signal.SIGKILL)
    await engines.start(0, policy_folders / "v0")
    assert files().isdisjoint(of_the_killed) and len(files()) == len(of_the_killed)
    assert {path.name for path in folder.iterdir()} <= {MARK, "0", "1"}


async def test_an_engine_that_is_stopped_ends_well_and_leaves_no_prompt_in_its_log(engines: Engines) -> None:
    assert engines.settings.run_dir.stat().st_mode & 0o077 == 0
    await written(engines.changed)
    stopped = (await engines.launcher.status())[0]
    assert stopped.pid
    os.kill(stopped.pid, signal.SIGTERM)
    while stopped.alive:
        await asyncio.sleep(0.1)
        stopped = (await engines.launcher.status())[0]
    assert stopped.exit_code == 0
    log = (engines.settings.home / "logs" / "engine-0.log").read_text()
    assert "vLLM" in log and "cake" not in log


async def test_nothing_changes_before_the_commit_or_after_a_drop(engines: Engines, policy_folders: Path) -> None:
    before = await written(engines.changed)
    why_not, *streamed = await asyncio.gather(
        engines.changed.stage(policy_folders / "v1", TIMEOUT_S), *[written(engines.changed) for _ in range(8)]
    )
    assert why_not is None
    assert [tokens for tokens, _ in streamed] == [before[0]] * 8
    assert await written(engines.changed) == before
    await engines.changed.drop_staged(TIMEOUT_S)
    await engines.changed.drain(None, TIMEOUT_S)
    assert await engines.changed.commit(TIMEOUT_S) is False
    await engines.changed.resume(TIMEOUT_S)
    assert await written(engines.changed) == before


async def test_many_changes_take_no_more_memory_than_a_few(engines: Engines, policy_folders: Path) -> None:
    """Each third version is staged and dropped. One that stayed each time would be 2.3 MB a change."""
    process, rss = await engines.engine(), []
    for number in range(81):
        folder = policy_folders / f"v{number % 3}"
        if number % 3 == 2:
            assert await engines.changed.stage(folder, TIMEOUT_S) is None
            await engines.changed.drop_staged(TIMEOUT_S)
        else:
            await engines.change(folder)
        if number % 20 == 0:
            rss.append(process.memory_info().rss)
    assert rss[-1] - rss[1] < 40e6
    await prove_it(engines.changed, policy_folders / "v1")


@pytest.mark.parametrize("harm", ["another shape", "a tensor is missing", "a tensor more"])
async def test_what_does_not_fit_is_not_staged(
    engines: Engines, policy_folders: Path, tmp_path: Path, harm: str
) -> None:
    folder = tmp_path / "harmed"
    shutil.copytree(policy_folders / "v1", folder)
    tensors = load_file(folder / "model.safetensors")
    if harm == "another shape":
        tensors["lm_head.weight"] = tensors["lm_head.weight"][:-1].copy()
    elif harm == "a tensor is missing":
        del tensors["model.layers.1.mlp.up_proj.weight"]
    else:
        tensors["model.layers.2.mlp.up_proj.weight"] = tensors["model.layers.1.mlp.up_proj.weight"].copy()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    before = await written(engines.changed)
    assert await engines.changed.stage(folder, TIMEOUT_S)
    await engines.changed.drain(None, TIMEOUT_S)
    assert await engines.changed.commit(TIMEOUT_S) is False
    await engines.changed.resume(TIMEOUT_S)
    assert await written(engines.changed) == before


async def test_a_tied_output_layer_is_changed_with_its_embedding(
    engines_process: Engines, policy_folders: Path, tmp_path: Path
) -> None:
    folders = [tied(policy_folders / version, tmp_path / version) for version in ("v0", "v1")]
    await engines_process.start(0, folders[0])
    before = await written(engines_process.changed)
    await engines_process.change(folders[1])
    await engines_process.start(1, folders[1])
    found = await written(engines_process.changed)
    assert found == await written(engines_process.fresh) and found != before


async def test_tied_by_its_configuration_and_not_in_its_files_it_says_so(
    engines_process: Engines, policy_folders: Path, tmp_path: Path
) -> None:
    folder = tied(policy_folders / "v0", tmp_path / "v0", keep_output_layer=True)
    await engines_process.start(0, folder)
    assert "tied" in str(await engines_process.changed.stage(folder, TIMEOUT_S))


def tied(source: Path, folder: Path, *, keep_output_layer: bool = False) -> Path:
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    if not keep_output_layer:
        tensors = load_file(folder / "model.safetensors")
        del tensors["lm_head.weight"]
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


async def test_a_policy_in_half_precision_is_known_by_an_engine_in_float32(
    engines_process: Engines, policy_folders: Path, tmp_path: Path
) -> None:
    """As most models that are published are, on a CPU: the learner's probe is rounded as they are."""
    save_policy(load_policy(policy_folders / "v0", device="cpu", dtype=torch.bfloat16), tmp_path)
    await engines_process.start(0, tmp_path)
    await prove_it(engines_process.changed, tmp_path, tolerance=None)
    with pytest.raises(PolicyInvalid, match=r"engine\.probe_tolerance"):
        await prove_it(engines_process.changed, tmp_path)


async def prove_it(client: EngineClient, folder: Path, tolerance: float | None = FLOAT32_TOLERANCE_NATS) -> None:
    said = json.loads((folder / "probe.json").read_text())
    probes = [Probe(one["tokens"], one["prompt_length"], one["logprobs"], said["dtype"]) for one in said["items"]]
    await prove(client, probes, load_settings().engine, SERVED_NAME, tolerance)
