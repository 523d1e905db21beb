"""What /metrics shows of an iteration and of the disk, as it changes; the rest is held where it is counted."""

import re
import shutil

from feedback.store import iterations
from tests.serve.conftest import Tandem


def shown(quiet: Tandem) -> dict[str, float]:
    with quiet.client() as client:
        text = client.get("/metrics").raise_for_status().text
    return {name: float(value) for name, value in re.findall(r"^(tandem_\S+) (\S+)$", text, re.MULTILINE)}


def test_an_iteration_is_shown_in_its_stage_and_gone_when_it_has_ended(quiet: Tandem) -> None:
    store = quiet.store
    assert shown(quiet)["tandem_iteration_active"] == 0
    iteration = store.write(iterations.start, trigger="operator", seed=0, settings={})
    assert shown(quiet)['tandem_iteration_progress{stage="queued"}'] == 0
    claimed = store.write(iterations.claim, iteration.id, "test", 60.0, 5)
    assert claimed is not None
    store.write(iterations.advance, iteration.id, claimed[1], stage="ppo", progress=0.25)
    during = shown(quiet)
    assert during["tandem_iteration_active"] == 1
    assert {name: value for name, value in during.items() if "progress" in name} == {
        'tandem_iteration_progress{stage="ppo"}': 0.25
    }
    store.write(iterations.fail, iteration.id, claimed[1], "enough")
    after = shown(quiet)
    assert after["tandem_iteration_active"] == 0
    assert not any("progress" in name for name in after)


def test_the_free_disk_is_that_of_the_home(quiet: Tandem) -> None:
    free = shutil.disk_usage(quiet.settings.home).free
    assert abs(shown(quiet)["tandem_home_free_bytes"] - free) < 0.2 * free
