"""What is made of a scorer's answers, also of one that is not there, says nonsense or nothing; the test plays it."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from feedback.errors import InvalidRequest, PolicyInvalid
from feedback.schema import Policy
from feedback.scoring import scorer_socket
from feedback.settings import ServeSettings
from feedback.store import policies
from serve.record import Record
from serve.scorer import NoPreferenceModel, Scorer, ScorerUnavailable
from serve.strange_prompts import Strange, StrangePrompts

ODD = [{"role": "user", "content": "}}}]]]"}]
ANSWERED = {"ok": True, "scores": [0.5, -1.0]}
STRANGE = {"ok": True, "strangeness": 12.5, "strange": True}


@pytest.fixture
def scorer(tmp_path: Path, record: Record) -> Scorer:
    """v0 was made by nobody, v1 by an iteration."""
    record.store.write(policies.register_start, "policies/v0", "d" * 64, {})
    made = Policy(
        version=1, state="candidate", parent=0, path="policies/v1", digest="e" * 64, iteration_id="itr_1",
        dataset_digest=None, settings={}, seed=0, evidence={}, created_at=1.0,
    )  # fmt: skip
    record.store.write(lambda session: session.add(made))
    return Scorer(tmp_path, record, 30.0)


def playing(folder: Path, answer: bytes | None, asked: list[Any]) -> Any:
    """A scorer that answers so; None: never."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            asked.append(json.loads(await reader.readline()))
            if answer is None:
                await reader.read()
            writer.write(answer or b"")

    return asyncio.start_unix_server(converse, scorer_socket(folder))


async def test_it_is_asked_for_replies_and_for_prompts(tmp_path: Path, scorer: Scorer) -> None:
    asked = list[Any]()
    async with await playing(tmp_path, json.dumps(ANSWERED).encode() + b"\n", asked):
        assert await scorer.scores(1, ODD, ["a", "b"], [True, False]) == [0.5, -1.0]
        await scorer.strangeness(1, ODD, 30.0)
    assert asked == [
        {"version": 1, "messages": ODD, "replies": ["a", "b"], "ended": [True, False]},
        {"version": 1, "messages": ODD},
    ]


OPINION = {"ok": True, "prompt_cut": False, "replies": []}


async def test_what_the_scorer_refuses_of_an_opinion_is_told_as_what_it_is(tmp_path: Path, scorer: Scorer) -> None:
    asked = list[Any]()
    async with await playing(tmp_path, json.dumps(OPINION).encode() + b"\n", asked):
        assert await scorer.opinion(1, ODD, ["a"], [True]) == OPINION
        deep: Any = "x"
        for _ in range(400):
            deep = [deep]
        with pytest.raises(InvalidRequest, match="messages"):
            await scorer.opinion(1, [*ODD, {"role": "user", "content": deep}], ["a"], [True])
    assert asked == [{"version": 1, "messages": ODD, "replies": ["a"], "ended": [True], "in_full": True}]
    for code, kind in (
        ("invalid_request", InvalidRequest),
        ("policy_invalid", PolicyInvalid),
        ("checkpoint_invalid", ScorerUnavailable),
    ):
        said = {"ok": False, "code": code, "error": "because"}
        async with await playing(tmp_path, json.dumps(said).encode() + b"\n", asked):
            with pytest.raises(kind, match="because") as refused:
                await scorer.opinion(1, ODD, ["a"], [True])
            assert type(refused.value) is kind
            with pytest.raises(ScorerUnavailable, match="because"):
                await scorer.scores(1, ODD, ["a"], [True])


async def test_a_chat_waits_for_one_opinion_at_most(tmp_path: Path, scorer: Scorer) -> None:
    """The scorer answers one question after the other; how many opinions are wanted may not matter to a chat."""
    order, there, goes_on = list[str](), {"opinion": asyncio.Event(), "chat": asyncio.Event()}, asyncio.Event()
    one_at_a_time = asyncio.Lock()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = "opinion" if "in_full" in json.loads(await reader.readline()) else "chat"
        there[kind].set()
        async with one_at_a_time:
            await goes_on.wait()
            order.append(kind)
            writer.write(json.dumps(OPINION | ANSWERED).encode() + b"\n")
            writer.close()

    async with await asyncio.start_unix_server(converse, scorer_socket(tmp_path)):
        opinions = [asyncio.create_task(scorer.opinion(1, ODD, ["a"], [True])) for _ in range(5)]
        await there["opinion"].wait()
        chat = asyncio.create_task(scorer.scores(1, ODD, ["a", "b"], [True, True]))
        await there["chat"].wait()
        goes_on.set()
        await asyncio.gather(chat, *opinions)
    assert order == ["opinion", "chat", *["opinion"] * 4]


async def test_opinions_wait_for_their_turn_no_longer_than_for_their_answer(tmp_path: Path, record: Record) -> None:
    asked, scorer = list[Any](), Scorer(tmp_path, record, 0.5)
    async with await playing(tmp_path, None, asked):
        opinions = (scorer.opinion(1, ODD, ["a"], [True]) for _ in range(10))
        ended = await asyncio.gather(*opinions, return_exceptions=True)
    assert {type(one) for one in ended} == {ScorerUnavailable}
    assert len(asked) < 10, "each waited anew once those before it had given up"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "TimeoutError"),
        (b"", "ConnectionResetError"),
        (b'{"ok": true}', "ConnectionResetError"),
        (b"{\n", "JSONDecodeError"),
        (b'{"ok": false, "error": "no model"}\n', "no model"),
        (b"{}\n", "no reason given"),
    ],
)
async def test_one_that_does_not_answer_is_unavailable(
    tmp_path: Path, scorer: Scorer, answer: bytes | None, said: str
) -> None:
    async with await playing(tmp_path, answer, []):
        with pytest.raises(ScorerUnavailable, match=said):
            await scorer.strangeness(1, ODD, 0.2 if answer is None else 30.0)
    with pytest.raises(ScorerUnavailable, match=r"python -m learner\.scorer") as absent:
        await scorer.strangeness(1, ODD, 30.0)
    assert (absent.value.code, absent.value.status) == ("scorer_unavailable", 503)


async def test_only_what_an_iteration_made_has_a_preference_model(scorer: Scorer) -> None:
    assert await scorer.iteration_of(1) == "itr_1"
    for version, serving in ((0, "v0"), (None, "nothing")):
        with pytest.raises(NoPreferenceModel, match=f"{serving} serves") as asked:
            await scorer.iteration_of(version)
        assert (asked.value.code, asked.value.param) == ("no_preference_model", "best_of")


@pytest.mark.parametrize(
    ("when_silent", "said", "wanted"),
    [
        ("open", STRANGE, Strange("itr_1", 12.5)),
        ("closed", STRANGE, Strange("itr_1", 12.5)),
        ("closed", STRANGE | {"strange": False}, None),
        ("closed", {"ok": True}, None),
        ("open", {"ok": False}, None),
        ("closed", {"ok": False}, Strange("itr_1", None)),
    ],
)
async def test_a_prompt_is_refused_where_the_gate_says_so_or_is_silent_and_shall_be_closed(
    tmp_path: Path, scorer: Scorer, when_silent: Any, said: dict[str, Any], wanted: Strange | None
) -> None:
    asked = list[Any]()
    gate = StrangePrompts(scorer, ServeSettings(reject_strange_prompts=when_silent, rejection_timeout_s=30.0))
    async with await playing(tmp_path, json.dumps(said).encode() + b"\n", asked):
        assert await gate.look(1, ODD) == wanted
        assert len(asked) == 1
        for version in (0, None):
            assert await gate.look(version, ODD) is None
        assert await StrangePrompts(scorer, ServeSettings()).look(1, ODD) is None
    assert len(asked) == 1, "asked for what it cannot know, or is not to"


async def test_a_prompt_waits_for_the_gate_only_so_long(tmp_path: Path, scorer: Scorer) -> None:
    gate = StrangePrompts(scorer, ServeSettings(reject_strange_prompts="open", rejection_timeout_s=0.1))
    async with await playing(tmp_path, None, []):
        async with asyncio.timeout(20):
            assert await gate.look(1, ODD) is None
