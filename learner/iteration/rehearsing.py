"""Which prompts the candidate of an iteration rehearses: those of its votes, and those of the newest other chats."""

from typing import Any

import orjson

from feedback.examples import split_of
from feedback.store import datasets, rehearsals
from learner.harmful_prompts import HarmTest
from learner.iteration.examples import Votes
from learner.iteration.run import Run, write_json
from learner.rehearsal_prompts import UnvotedPrompt, choose

LEFT_OUT = "not_rehearsed.json"

TokenIds = list[list[int]]


def choose_rehearsal(this: Run, votes: Votes, test: HarmTest) -> tuple[TokenIds, dict[str, Any] | None]:
    """The prompts, as token ids, and the report of `choose`; none where the settings want no rehearsal.

    The chats among them are recorded, so that who asks for erasure is told which versions rehearsed theirs, and so that
    whoever resumes the iteration rehearses the same.
    """
    settings = this.learner.ppo if this.learner.trainer == "ppo" else this.learner.dpo
    if not settings.rehearsal_weight:
        return [], None
    file = this.folder / LEFT_OUT
    known = this.store.read(rehearsals.of_iteration, this.iteration_id)
    chats = known or _newest(this, votes, settings.rehearsal_chats)
    chosen = choose(
        test,
        [*votes.prompts("train"), *votes.prompts("watch")],
        [UnvotedPrompt(chat.sample_id, chat.messages) for chat in chats],
        settings.rehearsal_replies,
        seed=this.seed,
        known_harmless=bool(known),
    )
    report = chosen.report
    if known and file.exists():
        # Those that were left out are not looked at again.
        report |= orjson.loads(file.read_bytes())
    else:
        write_json(file, {"harmful": report["harmful"]})
    this.store.write(rehearsals.keep, this.epoch, this.iteration_id, chosen.chats)
    this.progress.report("rehearsal", report)
    return chosen.prompts, report


def _newest(this: Run, votes: Votes, limit: int) -> list[rehearsals.Chat]:
    """Of the chats before the votes were frozen, those whose prompts nothing is measured on."""
    until = datasets.frozen_at(this.store.read(datasets.get, votes.dataset.name))
    found = this.store.read(rehearsals.newest_chats, until, limit)
    return [chat for chat in found if split_of(chat.messages, this.settings.feedback) != "heldout"]
