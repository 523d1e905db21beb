"""The gate for strange prompts as part of an iteration: trained on the dataset's prompts, kept with its evidence."""

from typing import Any

import orjson

from feedback.judges import STRANGE_PROMPTS
from learner.iteration.examples import Votes
from learner.iteration.run import Run, write_json
from learner.policy import Policy
from learner.prompts import HARMLESS
from learner.strange_prompts import Prompts, said_last, save_strange_prompts, train_strange_prompts


def train_rejection(this: Run, votes: Votes, start: Policy) -> dict[str, Any]:
    """Train the gate, or find what was trained before. Returns its report, with the digest of what was kept."""
    folder, report_file = this.folder / STRANGE_PROMPTS, this.folder / f"{STRANGE_PROMPTS}.json"
    if report_file.exists():
        known: dict[str, Any] = orjson.loads(report_file.read_bytes())
        return known
    gate, report = train_strange_prompts(
        start,
        _prompts(votes),
        this.learner.rejection,
        this.learner.preference.max_prompt_tokens,
    )
    if gate is not None:
        report["sha256"] = save_strange_prompts(gate, folder)
    write_json(report_file, report)
    this.progress.report(STRANGE_PROMPTS, report)
    return report


def _prompts(votes: Votes) -> Prompts:
    train = [(one.objective == HARMLESS, said_last(one.messages)) for one in votes.prompts("train")]
    held_out = [(one.asked_harmful, said_last(one.messages)) for one in votes.held_out_prompts()]
    parts = [
        [text for asks_harm, text in of if asks_harm is wanted and text]
        for of in (train, held_out)
        for wanted in (False, True)
    ]
    return Prompts(*parts)
