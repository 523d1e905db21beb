"""A learner on several machines: each is told what to do, makes what one machine makes, and may go and come back."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from feedback import manifest
from feedback.errors import SettingsInvalid
from feedback.schema import Iteration
from feedback.settings import Settings, load_settings
from feedback.store import Store, iterations
from learner.node import number_of
from tests.learner.iterations import LEASE_TTL_S, environment, learner, start
from tests.learner.test_iteration_sizes import home, steps_done
from tests.ports import free_port
from tests.waiting import wait_for

PPO = {"steps": 3, "episodes_per_step": 32, "episodes_per_minibatch": 16, "learning_rate": 3e-3}


@pytest.mark.slow
@pytest.mark.timeout(1000)  # its waits for iterations say what they may take
def test_two_machines_make_what_one_makes_also_when_one_of_them_was_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    store, settings = home(tmp_path, {"ppo": PPO})
    monkeypatch.setenv("TANDEM_LEARNER__PROCESSES", "2")
    iteration = start(store, settings)
    assert learner(settings, iteration).wait(timeout=300) == 0
    on_one_machine = weights_of(store, settings, iteration)

    # The second iteration is to be the first one again, so it takes its seed.
    settings = settings.model_copy(update={"learner": settings.learner.model_copy(update={"seed": -1})})
    monkeypatch.setenv("TANDEM_LEARNER__PROCESSES", "1")
    on_two_machines(monkeypatch)
    with further_machine(settings) as machine:
        iteration = start(store, settings)
        process = learner(settings, iteration)
        wait_for(lambda: 1 in steps_done(store, iteration), 120, "its first step", by=process)
        trainer_on(machine).kill()
        assert process.wait(timeout=120) != 0
        assert store.read(iterations.get, iteration.id).state == "running", "it can be gone on with"
        time.sleep(LEASE_TTL_S)
        assert learner(settings, iteration).wait(timeout=300) == 0
    ended = store.read(iterations.get, iteration.id)
    assert (ended.state, ended.attempts) == ("succeeded", 2)
    assert weights_of(store, settings, iteration) == on_one_machine
    store.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_further_machine_ends_what_it_does_when_the_first_one_is_gone_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    store, settings = home(tmp_path, {"ppo": PPO})
    on_two_machines(monkeypatch)
    with further_machine(settings) as machine:
        iteration = start(store, settings)
        process = learner(settings, iteration)
        wait_for(lambda: 1 in steps_done(store, iteration), 120, "its first step", by=process)
        trainer = trainer_on(machine)
        # Stopped, it answers as little as one behind a cut cable: connections stand, and nothing comes.
        stopped = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        for pid in stopped:
            psutil.Process(pid).send_signal(signal.SIGSTOP)
        trainer.wait(timeout=60)
        assert machine.poll() is None, "it waits for the next one"
        for pid in stopped:
            psutil.Process(pid).kill()
        process.wait(timeout=30)
    store.close()


def test_a_machine_that_has_no_number_is_told_what_to_say(tmp_path: Path) -> None:
    two = load_settings(home=tmp_path, learner={"nodes": 2, "rendezvous": "first.example:29500"})
    assert number_of(["1"], two) == 1
    for arguments in ([], ["0"], ["2"], ["-1"], ["one"], ["1", "2"]):
        with pytest.raises(SettingsInvalid, match="with N from 1 to 1"):
            number_of(arguments, two)
    with pytest.raises(SettingsInvalid, match=r"learner\.nodes is 1"):
        number_of(["1"], load_settings(home=tmp_path))


@pytest.mark.parametrize(
    "learner", [{"nodes": 2}, {"rendezvous": "first.example:29500"}, {"nodes": 2, "rendezvous": "x"}]
)
def test_machines_that_could_not_meet_are_refused(tmp_path: Path, learner: dict) -> None:
    with pytest.raises(SettingsInvalid, match="rendezvous"):
        load_settings(home=tmp_path, learner=learner)


def on_two_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started from now on is the learner of two machines, which meet on this one."""
    monkeypatch.setenv("TANDEM_LEARNER__NODES", "2")
    monkeypatch.setenv("TANDEM_LEARNER__RENDEZVOUS", f"127.0.0.1:{free_port()}")


@contextmanager
def further_machine(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    machine = subprocess.Popen([sys.executable, "-m", "learner.node", "1"], env=environment(settings))
    try:
        yield machine
        machine.terminate()
        assert machine.wait(timeout=60) == 0
    finally:
        machine.kill()
        machine.wait()


def trainer_on(machine: subprocess.Popen[bytes]) -> psutil.Process:
    """The process that trains there: torchrun's child."""
    (trainer,) = [
        child
        for child in psutil.Process(machine.pid).children(recursive=True)
        if "learner.iteration" in child.cmdline() and "torch.distributed.run" not in child.cmdline()
    ]
    return trainer


def weights_of(store: Store, settings: Settings, iteration: Iteration) -> str:
    """The digest of what it published."""
    folder = settings.policies_dir / f"v{store.read(iterations.get, iteration.id).candidate}"
    return manifest.read(folder)["files"]["model.safetensors"]["sha256"]
