"""What the stages take out of a frozen dataset, from lines written by hand."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest

from feedback.examples import Example
from learner.iteration.examples import Votes
from learner.prompts import HARMLESS, HELPFUL

HI, CAKE, KNIFE = ([{"role": "user", "content": text}] for text in ("Hi", "How do I cut a cake?", "A knife?"))


def line(messages: list[dict[str, str]], **said: Any) -> Example:
    """An ordinary vote of ann's, but for what is said."""
    fields: dict[str, Any] = {
        "vote": "vote_1", "revision": 1, "kind": "vote", "comparison": "cmp_1", "rater": "ann", "objective": HELPFUL,
        "split": "train", "tranche": "base", "messages": messages, "replies": ("a", "b"), "versions": ("v0", "v0"),
        "label": 0.9, "weight": 1.0,
    }  # fmt: skip
    return Example(**fields | said)


@pytest.fixture
def frozen(tmp_path: Path) -> Any:
    def write(*lines: Example) -> Path:
        (tmp_path / "votes.jsonl").write_bytes(b"".join(orjson.dumps(asdict(one)) + b"\n" for one in lines))
        return tmp_path

    return write


def test_raters_are_of_one_mind_about_a_pair_under_an_objective_or_divided(frozen: Any) -> None:
    folder = frozen(
        line(HI, rater="ann", label=0.9),
        line(HI, rater="bob", label=0.6),
        # A rewritten reply is better than the one it was made of, whatever others say.
        line(HI, rater="bob", kind="rewrite", label=0.95),
        line(HI, rater="ann", objective=HARMLESS, label=0.9),
        line(HI, rater="bob", objective=HARMLESS, label=0.1),
        line(HI, rater="ann", comparison="cmp_2", label=0.9),
        line(HI, rater="bob", comparison="cmp_3", label=0.5),
        line(HI, rater="cyd", comparison="cmp_3", label=0.1),
    )
    found = Votes(folder).comparisons("train")
    assert [one.agreement for one in found] == [
        "unanimous", "unanimous", "unanimous", "divided", "divided", "one vote", "divided", "divided",
    ]  # fmt: skip


def test_a_reply_without_a_word_is_not_learnt_from_and_a_split_is_by_itself(frozen: Any) -> None:
    folder = frozen(
        line(HI, replies=("a", " ")), line(HI, replies=("", "b")), line(CAKE, split="watch"), line(KNIFE, weight=0.5)
    )
    (one,) = Votes(folder).comparisons("train")
    assert (one.messages, one.weight, one.tranche, one.ended) == (KNIFE, 0.5, "base", (True, True))
    assert [one.messages for one in Votes(folder).prompts("watch")] == [CAKE]


def test_a_prompt_asks_for_harm_if_more_raters_judge_it_under_harmless_however_often_one_does(frozen: Any) -> None:
    many = [line(HI, comparison=f"cmp_{n}", rater="zed", objective=HARMLESS) for n in range(9)]
    folder = frozen(
        *many,
        line(HI, rater="ann"),
        line(HI, rater="bob"),
        line(CAKE, rater="zed", objective=HARMLESS),
        line(CAKE, rater="ann"),
        line(KNIFE, rater="ann", objective=HARMLESS),
        line(KNIFE, rater="bob", objective=HARMLESS),
        line(KNIFE, rater="cyd"),
    )
    hi, cake, knife = Votes(folder).voted("train")
    counts = [(one.under_harmless, one.under_others) for one in (hi, cake, knife)]
    assert counts == [(1, 2), (1, 1), (2, 1)]
    said = [one.objective for one in Votes(folder).prompts("train")]
    assert said == [HELPFUL, HELPFUL, HARMLESS]
    # What raters leave undecided, others say.
    told = [one.objective for one in Votes(folder, {cake.digest, hi.digest}).prompts("train")]
    assert told == [HELPFUL, HARMLESS, HARMLESS]


def test_imported_votes_on_a_prompt_are_of_as_many_raters(frozen: Any) -> None:
    imported = [
        line(HI, vote=f"vote_{n}", comparison=f"cmp_{n}", rater="imported", objective=HARMLESS) for n in range(3)
    ]
    folder = frozen(*imported, line(HI, rater="ann"), line(HI, rater="bob", comparison="cmp_2"))
    (one,) = Votes(folder, nobody="imported").voted("train")
    assert (one.under_harmless, one.under_others) == (3, 2)


def test_a_held_out_prompt_names_the_first_vote_on_it(frozen: Any) -> None:
    folder = frozen(
        line(HI, vote="vote_1", split="heldout"),
        line(CAKE, vote="vote_2", split="heldout", objective=HARMLESS),
        line(HI, vote="vote_3", split="heldout", rater="bob"),
        line(KNIFE, vote="vote_4"),
    )
    found = Votes(folder).held_out_prompts()
    assert [(one.messages, one.asked_harmful, one.vote) for one in found] == [
        (HI, False, "vote_1"),
        (CAKE, True, "vote_2"),
    ]
