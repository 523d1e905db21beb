"""LoRA adapters as policy versions, in one real engine: several at once, promoted beside what serves, each reply on
exactly one of them.
"""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from feedback.errors import PolicyInvalid
from feedback.schema import Policy
from feedback.settings import load_settings
from feedback.store import Store
from tests.serve.adapters import add_adapters, add_spoiled
from tests.serve.api_process import Process, engine_pid, promote
from tests.serve.chats import chat, chatting
from tests.serve.conftest import READY_TIMEOUT_S, LauncherProcess, make_home
from tests.waiting import wait_for

pytestmark = pytest.mark.engine

MESSAGES = [{"role": "user", "content": "Name three colors."}]
GREEDY = {"temperature": 0, "max_tokens": 12, "logprobs": True, "messages": MESSAGES}
NATS = 0.0005


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, policy_folders: Path) -> Iterator[tuple[Store, Process]]:
    """One engine that takes two adapters; v3, v4 and v5 are adapters on v0, which serves."""
    home = tmp_path_factory.mktemp("adapters") / "home"
    store, secrets = make_home(home, policy_folders)
    settings = load_settings(home=home, engine={"slots": 1, "adapters": 2})
    assert add_adapters(store, settings, 3) == [3, 4, 5]
    launcher = LauncherProcess(settings)
    process = Process(settings, secrets["operate"], TANDEM_ENGINE__ADAPTERS="2")
    try:
        process.wait_until_ready(READY_TIMEOUT_S)
        yield store, process
    finally:
        process.end()
        launcher.stop()
        store.close()


@pytest.fixture
def store(running: tuple[Store, Process]) -> Store:
    return running[0]


@pytest.fixture
def process(running: tuple[Store, Process]) -> Iterator[Process]:
    """With v0 serving, before and after."""
    assert promote(running[1], "v0").status_code == 200
    yield running[1]
    assert promote(running[1], "v0").status_code == 200


def write(process: Process, model: str = "tandem", **fields: Any) -> httpx.Response:
    with process.client() as client:
        return client.post("/v1/chat/completions", json=chat(**GREEDY, model=model, **fields))


def sureness(answer: httpx.Response) -> float:
    return float(answer.json()["choices"][0]["logprobs"]["content"][0]["logprob"])


def models(process: Process) -> set[str]:
    with process.client() as client:
        return {model["id"] for model in client.get("/v1/models").json()["data"]}


def test_an_adapter_is_promoted_beside_what_serves(process: Process, store: Store) -> None:
    pid = engine_pid(process)
    with chatting(process, people=4) as chats:
        for version in ("v3", "v4", "v0", "v3"):
            answer = promote(process, version)
            assert (answer.status_code, answer.json().get("version")) == (200, version), answer.text
            assert write(process).json()["system_fingerprint"] == version
    assert chats.failures == [] and engine_pid(process) == pid
    assert {0, 3, 4} >= chats.versions(store) > {0}


def test_several_at_once_and_each_reply_on_exactly_one(process: Process) -> None:
    promote(process, "v3")
    promote(process, "v4")
    assert models(process) == {"tandem", "tandem@v0", "tandem@v3", "tandem@v4"}
    alone = {version: sureness(write(process, f"tandem@{version}")) for version in ("v0", "v3", "v4")}
    low, middle, high = sorted(alone.values())
    assert low + 3 * NATS < middle < high - 3 * NATS
    asked = ["v0", "v3", "v4"] * 8
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda version: write(process, f"tandem@{version}"), asked))
    for version, answer in zip(asked, answers, strict=True):
        assert answer.json()["system_fingerprint"] == version
        assert abs(sureness(answer) - alone[version]) < NATS


def test_when_there_are_as_many_as_the_engine_takes_the_oldest_goes(process: Process) -> None:
    for version in ("v3", "v4", "v5"):
        assert promote(process, version).status_code == 200
    assert models(process) == {"tandem", "tandem@v0", "tandem@v4", "tandem@v5"}
    answer = write(process, "tandem@v3")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_other_full_weights_in_place_and_back_to_an_adapter(process: Process) -> None:
    """With one engine the base must change: v1's weights for v0's, and v0's again for the adapter on it."""
    promote(process, "v3")
    before = sureness(write(process))
    for version in ("v1", "v3"):
        answer = promote(process, version)
        assert answer.status_code == 200, answer.text
        assert write(process).json()["system_fingerprint"] == version
    assert "beforehand" not in process.log
    assert models(process) == {"tandem", "tandem@v0", "tandem@v3"}
    assert abs(sureness(write(process)) - before) < NATS


def test_the_api_process_comes_back_to_the_adapter_that_serves(process: Process) -> None:
    promote(process, "v4")
    pid = engine_pid(process)
    process.process.kill()
    process.process.wait()
    process.start()
    process.wait_until_ready(READY_TIMEOUT_S)
    assert write(process).json()["system_fingerprint"] == "v4" and engine_pid(process) == pid
    os.kill(pid, signal.SIGKILL)
    # A chat waits for it, but not for as long as a busy machine may take to start it.
    wait_for(lambda: engine_pid(process) != pid, READY_TIMEOUT_S, "another engine")
    process.wait_until_ready(READY_TIMEOUT_S)
    answer = write(process)
    assert (answer.status_code, answer.json().get("system_fingerprint")) == (200, "v4")


def reshape(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(iter(tensors))
    tensors[name] = np.ascontiguousarray(tensors[name][:, :-1])
    save_file(tensors, path)


def other_weights(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({name: tensor * 1.5 for name, tensor in load_file(path).items()}, path)


def larger_rank(folder: Path) -> None:
    path = folder / "adapter_config.json"
    path.write_text(path.read_text().replace('"r": 4', '"r": 32'))


@pytest.mark.parametrize(
    ("spoil", "said"), [(reshape, "shape"), (other_weights, "nats"), (larger_rank, "max_adapter_rank")]
)
def test_what_must_not_be_served_is_not(process: Process, store: Store, spoil: Any, said: str) -> None:
    version = add_spoiled(store, process.settings, 3, spoil)
    answer = promote(process, f"v{version}")
    assert (answer.status_code, answer.json()["code"]) == (422, "policy_invalid") and said in answer.json()["detail"]
    assert f"tandem@v{version}" not in models(process)
    assert write(process).json()["system_fingerprint"] == "v0"


def test_a_value_that_is_not_finite_is_never_published(store: Store, process: Process) -> None:
    def nan(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        tensors = load_file(path)
        tensors[next(iter(tensors))][0, 0] = np.nan
        save_file(tensors, path)

    with pytest.raises(PolicyInvalid, match="finite"):
        add_spoiled(store, process.settings, 3, nan)


def test_an_adapter_of_another_base_is_refused(process: Process, store: Store) -> None:
    """The digest in its manifest is not that of v0 as it is in the record."""
    version = add_spoiled(store, process.settings, 3, lambda folder: None)

    def change(session: Any) -> str:
        base = session.get(Policy, 0)
        before, base.digest = base.digest, "0" * 64
        return str(before)

    before = store.write(change)
    try:
        answer = promote(process, f"v{version}")
    finally:

        def restore(session: Any) -> None:
            session.get(Policy, 0).digest = before

        store.write(restore)
    assert answer.status_code == 422 and "not made for v0" in answer.json()["detail"]
