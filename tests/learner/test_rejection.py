"""The gate for strange prompts in an iteration: which prompts it learns from, and that it is trained once."""

from collections import Counter
from pathlib import Path

import orjson

from feedback import datasets
from feedback.store import iterations
from feedback.store.samples import prompt_digest
from learner.iteration.examples import Votes
from learner.iteration.process import freeze, open_run
from learner.iteration.rejection import train_rejection
from learner.iteration.versions import load
from learner.processes import ALONE
from learner.strange_prompts import digest
from tests.learner.iterations import quick_settings, start, voted_home


def test_it_learns_from_each_split_what_is_its_own_and_once(tmp_path: Path) -> None:
    settings = quick_settings(tmp_path)
    with voted_home(settings, votes=150) as store:
        iteration = start(store, settings)
        _, epoch = store.write(iterations.claim, iteration.id, "me", 60.0, 5)
        this = open_run(store, settings, iteration.id, epoch, ALONE)
        votes, v0 = Votes(freeze(this)), load(this, 0)
        report = train_rejection(this, votes, v0)
        harmless: dict[tuple[str, str], int] = {}
        for one in datasets.read(votes.dataset):
            asked = one.split, prompt_digest(one.messages)
            harmless[asked] = harmless.get(asked, 0) + (1 if one.objective == "harmless" else -1)
        found = Counter((split, more > 0) for (split, _), more in harmless.items())
        assert min(found["train", True], found["heldout", True]) > 0
        assert (report["ordinary"], report["held_out"]) == (found["train", False], found["heldout", False])
        shown = min(this.learner.rejection.examples, found["train", True])
        assert (report["examples"], report["held_out_harmful"]) == (shown, found["heldout", True])
        folder = this.folder / "strange_prompts"
        assert report["sha256"] == digest(folder)
        written = [path.stat().st_mtime_ns for path in sorted(folder.iterdir())]
        assert train_rejection(this, votes, v0) == report
        assert [path.stat().st_mtime_ns for path in sorted(folder.iterdir())] == written
        assert orjson.loads(folder.with_suffix(".json").read_bytes()) == report
        told = [
            event for event in store.read(iterations.events_after, iteration.id, 0) if event.kind == "strange_prompts"
        ]
        assert [event.data for event in told] == [report]
