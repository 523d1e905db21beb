"""The API process as one, over a single engine: changing weights in place, draining, coming back after a kill."""

import asyncio
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoConfig, LlamaForCausalLM

from feedback import manifest
from feedback.schema import Sample
from feedback.settings import load_settings
from feedback.store import Store, leases, policies
from learner.policy import load_policy, save_policy
from serve.engine.client import EngineClient
from serve.engine.launcher_protocol import engine_socket
from serve.engine.swap import Change
from tests.clients import client_of
from tests.serve.api_process import Process, engine_pid, promote
from tests.serve.chats import chat, chatting
from tests.serve.conftest import STARTING_POLICY, LauncherProcess, ServerThread, make_home
from tests.serve.spoiling import add_candidate, spoiled_version
from tests.waiting import wait_for

pytestmark = pytest.mark.engine

# More than any machine takes where nobody is waited for.
DRAIN_TIMEOUT_S = 240


@pytest.fixture(scope="module")
def store_and_process(
    tmp_path_factory: pytest.TempPathFactory, policy_folders: Path
) -> Iterator[tuple[Store, Process, LauncherProcess]]:
    home = tmp_path_factory.mktemp("alone") / "home"
    store, secrets = make_home(home, policy_folders)
    settings = load_settings(home=home, engine={"slots": 1})
    launcher = LauncherProcess(settings)
    process = Process(settings, secrets["operate"], TANDEM_SERVE__DRAIN_TIMEOUT_S=str(DRAIN_TIMEOUT_S))
    try:
        process.wait_until_ready(300)
        yield store, process, launcher
    finally:
        process.end()
        launcher.stop()
        store.close()


@pytest.fixture
def process(store_and_process: tuple[Store, Process, LauncherProcess]) -> Process:
    running = store_and_process[1]
    if running.process.poll() is not None:
        running.start()
    running.wait_until_ready(120)
    return running


@pytest.fixture
def store(store_and_process: tuple[Store, Process, LauncherProcess]) -> Store:
    return store_and_process[0]


def end(process: Process) -> None:
    process.process.send_signal(signal.SIGTERM)
    process.process.wait(timeout=60)


def restart(process: Process) -> None:
    end(process)
    process.start()
    process.wait_until_ready(120)


def test_weights_change_in_place_and_nobody_fails(process: Process, store: Store) -> None:
    before = len(process.log)
    with chatting(process, people=4) as chats:
        for version in ("v1", "v2", "v0"):
            answer = promote(process, version)
            assert (answer.status_code, answer.json()["version"]) == (200, version)
    assert chats.failures == []
    assert "beforehand" not in process.log[before:]
    assert chats.versions(store) >= {0, 1}


def test_in_place_what_fails_the_probe_goes_back_to_the_old_weights(process: Process, store: Store) -> None:
    """Without the engine being started again."""
    version, before = spoiled_version(store, process.settings, "probe"), engine_pid(process)
    with process.client() as client:
        body = chat(temperature=0)
        reply = client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
        answer = promote(process, f"v{version}")
        assert answer.status_code == 422 and "nats" in answer.json()["detail"]
        after = client.post("/v1/chat/completions", json=body).json()
    assert after["system_fingerprint"] == "v0" and after["choices"][0]["message"]["content"] == reply
    assert engine_pid(process) == before


def test_weights_of_other_shapes_come_with_an_engine_of_their_own(process: Process, store: Store) -> None:
    version, before = store.read(policies.next_version), engine_pid(process)
    folder = process.settings.policies_dir / f"v{version}"
    half = AutoConfig.from_pretrained(STARTING_POLICY, hidden_size=64, num_attention_heads=2, num_key_value_heads=2)
    save_policy(replace(load_policy(STARTING_POLICY, "cpu"), model=LlamaForCausalLM(half).eval()), folder)
    add_candidate(store, version, manifest.write(folder))
    for wanted in (f"v{version}", "v0"):
        answer = promote(process, wanted)
        assert answer.status_code == 200, answer.text
        with process.client() as client:
            said = client.post("/v1/chat/completions", json=chat(max_tokens=2)).json()
        assert said["system_fingerprint"] == wanted
        assert engine_pid(process) != before
        before = engine_pid(process)


def test_a_challenger_needs_an_engine_of_its_own(process: Process) -> None:
    with process.client() as client:
        answer = client.put("/v1/traffic", json={"challenger": "v1", "chat_share": 0.5})
    assert answer.status_code == 409


def test_sigterm_lets_replies_in_flight_end(process: Process, store: Store) -> None:
    with (
        process.client() as client,
        client.stream(
            "POST", "/v1/chat/completions", json=chat(stream=True, max_tokens=200, ignore_eos=True)
        ) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        process.process.send_signal(signal.SIGTERM)
        rest = [line for line in lines if line]
        request_id = answer.headers["x-request-id"]
    assert rest[-1] == "data: [DONE]"
    # uvicorn ends by the signal that it was sent, once it is done.
    assert process.process.wait(timeout=60) in (0, -signal.SIGTERM)
    (row,) = store.read(lambda session: session.query(Sample).filter(Sample.request_id == request_id).all())
    assert row.status == "complete" and len(row.token_ids) == 200


@pytest.mark.parametrize("cut_off", ["while it is drained", "while weights change"])
def test_a_promotion_that_is_cancelled_leaves_the_only_engine_with_what_it_held(
    process: Process, store: Store, cut_off: str
) -> None:
    assert promote(process, "v0").status_code == 200
    before = engine_pid(process)
    end(process)
    server = ServerThread(process.settings)
    server.start()
    gateway = server.app.state.gateway
    slot = gateway.pool.slots[0]

    async def cancel_in_the_midst() -> None:
        promoting = asyncio.create_task(gateway.promoter.promote(1, Change("promote", "test", False, "test")))
        while slot.state != "held" or (cut_off == "while weights change" and slot.version is not None):
            assert not promoting.done()
            await asyncio.sleep(0)
        promoting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await promoting

    try:
        while slot.state != "ready" or not gateway.pool.is_open:
            time.sleep(0.1)
        asyncio.run_coroutine_threadsafe(cancel_in_the_midst(), gateway._tasks[0].get_loop()).result(60)
        with client_of(server.url, process.secret) as asking:
            said = asking.post("/v1/chat/completions", json=chat()).json()
        assert said["system_fingerprint"] == "v0" and slot.state == "ready"
        assert not store.read(leases.held, leases.ENGINES)
    finally:
        server.stop()
    restart(process)
    assert engine_pid(process) == before


def test_sigterm_ends_who_follows_an_iteration(process: Process) -> None:
    with process.client() as client:
        iteration_id = client.post("/v1/iterations").json()["id"]
        with client.stream("GET", f"/v1/iterations/{iteration_id}/events") as events:
            lines = events.iter_lines()
            next(lines)
            process.process.send_signal(signal.SIGTERM)
            list(lines)
    process.process.wait(timeout=DRAIN_TIMEOUT_S / 2)


def test_after_a_kill_it_takes_the_living_engine_over_and_waits_for_no_lease(process: Process, store: Store) -> None:
    before = engine_pid(process)
    (process_id,) = [path.name for path in (process.settings.run_dir / "api").iterdir()]
    assert store.write(leases.acquire, leases.ENGINES, f"asked_1@{process_id}", 600.0) is not None
    process.process.kill()
    process.process.wait()
    process.start()
    process.wait_until_ready(120)
    assert engine_pid(process) == before
    assert promote(process, "v1").status_code == 200
    assert promote(process, "v0").status_code == 200


def test_after_a_kill_an_engine_that_does_not_hold_what_it_says_is_started_anew(process: Process, store: Store) -> None:
    before, serving = engine_pid(process), store.read(policies.serving)
    assert serving is not None
    process.process.kill()
    process.process.wait()

    async def change_secretly() -> None:
        client = EngineClient(engine_socket(process.settings.run_dir, 0))
        await client.drain(None, 60)
        await client.reload(process.settings.policies_dir / f"v{1 - serving.version}", 60)
        await client.name_weights(f"v{serving.version}", 60)

    asyncio.run(change_secretly())
    process.start()
    process.wait_until_ready(120)
    assert engine_pid(process) != before


def test_an_engine_that_a_killed_process_left_in_mid_change_is_started_anew(process: Process, store: Store) -> None:
    restart(process)
    before = engine_pid(process)
    # As another process of this home leaves it, which is never started again.
    (process.settings.run_dir / "api" / "api_killed").touch()
    epoch = store.write(leases.acquire, leases.ENGINES, "asked_1@api_killed", 600.0)
    assert epoch is not None
    asyncio.run(EngineClient(engine_socket(process.settings.run_dir, 0)).drain(None, 60))
    wait_for(lambda: engine_pid(process) != before, 180, "it to be started anew")
    assert not store.read(leases.held, leases.ENGINES, epoch)
    process.wait_until_ready(120)


def test_the_log_holds_no_text(process: Process) -> None:
    with process.client() as client:
        marked = [{"role": "user", "content": "xyzzy-plugh"}]
        client.post("/v1/chat/completions", json=chat(messages=marked))
        client.post("/v1/chat/completions", json=chat(messages=marked, temperature="xyzzy-plugh"))
        client.post("/v1/chat/completions", content=b'{"xyzzy-plugh')
    assert "POST /v1/chat/completions 200" in process.log and "xyzzy" not in process.log
    engine_log = process.settings.home / "logs" / "engine-0.log"
    assert "xyzzy" not in engine_log.read_text()
