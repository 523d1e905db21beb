"""The choice of what an iteration rehearses, and that whoever goes on after a kill makes and tells the same."""

from pathlib import Path

from feedback.store import iterations, rehearsals
from learner.harmful_prompts import HarmTest
from learner.iteration.examples import Votes
from learner.iteration.process import freeze, open_run
from learner.iteration.rehearsing import choose_rehearsal
from learner.iteration.versions import load
from learner.processes import ALONE
from tests.learner.iterations import quick_settings, start, voted_home


def test_what_is_rehearsed_and_what_was_left_out_are_told_again_after_a_kill(tmp_path: Path) -> None:
    settings = quick_settings(tmp_path)
    with voted_home(settings, votes=150, chats=60) as store:
        iteration = start(store, settings)
        _, epoch = store.write(iterations.claim, iteration.id, "me", 60.0, 5)
        this = open_run(store, settings, iteration.id, epoch, ALONE)
        votes, v0 = Votes(freeze(this)), load(this, 0)
        test = HarmTest.learn(v0, [*votes.voted("train"), *votes.voted("watch")], this.learner.ppo, None, seed=1)
        prompts, report = choose_rehearsal(this, votes, test)
        assert len(store.read(rehearsals.of_iteration, iteration.id)) == report["from_chats"] > 0
        assert choose_rehearsal(this, votes, test) == (prompts, report)
