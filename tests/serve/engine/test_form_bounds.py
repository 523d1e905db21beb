"""Forms that replies are to keep to: what takes too much is known without taking it, and none is worked out twice."""

import asyncio
import os
import resource
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from serve.engine import form_bounds
from serve.engine.client import CHAT
from serve.engine.door import ASKED_BY, KEY_HEADER
from serve.engine.form_bounds import MOST_BYTES, MOST_WORDS_BYTES, Forms, Verdict, work_out_within_bounds
from serve.engine.terse import Terse
from serve.engine.terse_stream import TERSE_HEADER

GOOD, TOO_MUCH = Verdict(is_within=True), Verdict(is_within=False)


def too_long() -> None:
    while True:
        pass


def too_large() -> None:
    bytes(2 * MOST_BYTES)


def given_up() -> None:
    os._exit(1)


def wrong() -> None:
    raise ValueError("no such word: größer")


def wrong_at_length() -> None:
    raise ValueError("ß" * MOST_WORDS_BYTES)


@pytest.mark.parametrize(
    ("work_out", "verdict"),
    [
        (dict, GOOD),
        (wrong, Verdict(is_within=True, wrong="no such word: größer")),
        (wrong_at_length, Verdict(is_within=True, wrong="ß" * (MOST_WORDS_BYTES // 2))),
        (too_long, TOO_MUCH),
        (too_large, TOO_MUCH),
    ],
)
def test_only_what_is_ended_is_too_much(
    monkeypatch: pytest.MonkeyPatch, work_out: Callable[[], object], verdict: Verdict
) -> None:
    # However busy the machine is.
    monkeypatch.setattr(form_bounds, "MOST_S", 300.0)
    assert work_out_within_bounds(work_out) == verdict


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


async def test_each_is_worked_out_once() -> None:
    forms = Forms()
    assert forms.known("a") is None
    assert await forms.find_out("a", dict) == GOOD
    # Not asked again: it would be too much.
    assert await forms.find_out("a", given_up) == GOOD
    assert forms.known("a") == GOOD
    assert await forms.find_out("b", given_up) == TOO_MUCH
    assert await asyncio.gather(*(forms.find_out("b", dict) for _ in range(3))) == [TOO_MUCH] * 3


async def test_one_that_is_known_does_not_wait_for_one_that_takes_long() -> None:
    forms = Forms()
    await forms.find_out("known", dict)
    with pipe() as (reading, writing):
        takes_long = asyncio.create_task(forms.find_out("long", lambda: os.read(reading, 1)))
        await asyncio.sleep(0)
        assert await forms.find_out("known", dict) == GOOD
        assert not takes_long.done()
        os.write(writing, b".")
        assert await takes_long == GOOD


async def test_who_leaves_does_not_have_it_worked_out_beside_the_next_one() -> None:
    forms = Forms()
    with pipe() as (began, beginning), pipe() as (reading, writing):

        def takes_long() -> None:
            os.write(beginning, b".")
            os.read(reading, 1)

        leaves = asyncio.create_task(forms.find_out("a", takes_long))
        while not select.select([began], [], [], 0)[0]:
            assert not leaves.done()
            await asyncio.sleep(0.01)
        leaves.cancel()
        await asyncio.wait([leaves])
        # The same again waits for what goes on.
        again = asyncio.create_task(forms.find_out("a", given_up))
        await asyncio.sleep(0)
        os.write(writing, b".")
        assert await again == GOOD


async def test_keys_take_turns_and_who_has_left_has_none() -> None:
    forms = Forms()
    with pipe() as (order, said), pipe() as (reading, writing):

        def asks(key: bytes, form: str, work_out: Callable[[], object]) -> "asyncio.Task[Verdict]":
            ASKED_BY.set(key)
            return asyncio.create_task(forms.find_out(form, work_out))

        first = asks(b"flood", "first", lambda: os.read(reading, 1))
        flood = [asks(b"flood", form, lambda form=form: os.write(said, form.encode())) for form in "12345"]  # type: ignore[misc]
        other = asks(b"other", "x", lambda: os.write(said, b"x"))
        await asyncio.sleep(0)
        flood[1].cancel()
        await asyncio.wait([flood[1]])
        os.write(writing, b".")
        await asyncio.gather(first, other, *flood, return_exceptions=True)
        # After the first of the flood it was the other key's turn.
        assert os.read(order, 10) == b"x1345"


async def test_who_leaves_a_stream_before_it_has_begun_has_no_turn_either() -> None:
    forms = Forms()
    nothing: Any = None
    with pipe() as (order, said), pipe() as (reading, writing):
        first = asyncio.create_task(forms.find_out("first", lambda: os.read(reading, 1)))
        terse = Terse(nothing)
        terse._chats = SimpleNamespace(begin=lambda *_: forms.find_out("left", lambda: os.write(said, b"x")))  # type: ignore[assignment]
        came = iter([{"type": "http.request"}, {"type": "http.disconnect"}])

        async def receive() -> dict[str, Any]:
            return next(came)

        asked = {"type": "http", "path": CHAT, "headers": [(TERSE_HEADER.encode(), b"1"), (KEY_HEADER.encode(), b"a")]}
        await terse(asked, receive, nothing)
        assert not first.done()
        os.write(writing, b".")
        await forms.find_out("last", lambda: os.write(said, b"y"))
        assert os.read(order, 10) == b"y"


async def test_a_fork_that_cannot_be_made_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise RuntimeError("no more")

    forms = Forms()
    with monkeypatch.context() as full:
        full.setattr(os, "fork", fork)
        asked = [asyncio.create_task(forms.find_out(form, dict)) for form in "ab"]
        assert list(map(type, await asyncio.gather(*asked, return_exceptions=True))) == [RuntimeError] * 2
    assert await forms.find_out("a", dict) == GOOD


async def test_what_a_fork_lacks_before_it_begins_is_not_the_forms_fault() -> None:
    forms = Forms()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    asked = asyncio.create_task(forms.find_out("a", dict))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    await asyncio.wait([asked])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with pytest.raises(OSError, match="bounded"):
        await asked
    assert await forms.find_out("a", dict) == GOOD


async def test_one_that_the_machine_had_no_time_for_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    forms = Forms()
    with monkeypatch.context() as busy:
        busy.setattr(form_bounds, "MOST_S", 0.05)
        assert await forms.find_out("a", signal.pause) == TOO_MUCH
    assert await forms.find_out("a", dict) == GOOD


async def test_vllm_itself_works_out_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.exceptions import VLLMValidationError
    from vllm.sampling_params import SamplingParams, StructuredOutputsParams
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.structured_output import backend_guidance

    def validate(params: SamplingParams, tokenizer: Any = None) -> None:
        if os.getpid() == here:
            raise AssertionError("worked out where replies are written")
        validated(params, tokenizer)

    async def add_request(engine: Any, request_id: str, prompt: Any, params: SamplingParams) -> None:
        # As vLLM does before it looks at the form.
        params.structured_outputs._backend = "guidance"
        backend_guidance.validate_guidance_grammar(params, tokenizer=None)

    here, validated = os.getpid(), backend_guidance.validate_guidance_grammar
    monkeypatch.setattr(backend_guidance, "validate_guidance_grammar", validate)
    monkeypatch.setattr(AsyncLLM, "add_request", add_request)
    form_bounds.install()
    config = SimpleNamespace(structured_outputs_config=SimpleNamespace(backend="guidance"))

    async def ask(**form: Any) -> None:
        params = SamplingParams(structured_outputs=StructuredOutputsParams(**form))
        await AsyncLLM.add_request(SimpleNamespace(vllm_config=config), "smp", None, params)

    for _ in range(2):
        await ask(json={"type": "string"})
        with pytest.raises(VLLMValidationError, match="Grammar error"):
            await ask(grammar="start: unknown")
        with pytest.raises(VLLMValidationError, match="Invalid grammar specification: 'triggers'"):
            await ask(structural_tag="{}")
