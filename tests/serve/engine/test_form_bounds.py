"""Forms that replies are to keep to: what takes too much is known without taking it."""

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from serve.engine import form_bounds
from serve.engine.form_bounds import MOST_BYTES, Forms, ends_within_bounds


def too_long() -> None:
    while True:
        pass


def too_large() -> None:
    bytes(2 * MOST_BYTES)


def given_up() -> None:
    os._exit(1)


def wrong() -> None:
    raise ValueError


@pytest.mark.parametrize(("work_out", "ends"), [(dict, True), (wrong, True), (too_long, False), (too_large, False)])
def test_only_what_is_ended_is_too_much(work_out: Callable[[], object], ends: bool) -> None:
    assert ends_within_bounds(work_out) is ends


async def test_each_is_worked_out_once() -> None:
    forms = Forms()
    assert await forms.are_within("a", dict)
    # Not asked again: it would be too much.
    assert await forms.are_within("a", given_up)
    assert not await forms.are_within("b", given_up)
    assert await asyncio.gather(*(forms.are_within("b", dict) for _ in range(3))) == [False] * 3


async def test_one_that_is_known_does_not_wait_for_one_that_takes_long() -> None:
    forms, reading, writing = Forms(), *os.pipe()
    await forms.are_within("known", dict)
    takes_long = asyncio.create_task(forms.are_within("long", lambda: os.read(reading, 1)))
    await asyncio.sleep(0)
    assert await forms.are_within("known", dict)
    assert not takes_long.done()
    os.write(writing, b".")
    assert await takes_long
    os.close(reading)
    os.close(writing)


async def test_who_leaves_does_not_have_it_worked_out_beside_the_next_one() -> None:
    forms, (began, beginning), (reading, writing) = Forms(), os.pipe(), os.pipe()

    def takes_long() -> None:
        os.write(beginning, b".")
        os.read(reading, 1)

    leaves = asyncio.create_task(forms.are_within("a", takes_long))
    await asyncio.to_thread(os.read, began, 1)
    leaves.cancel()
    await asyncio.wait([leaves])
    # The same again waits for what goes on.
    again = asyncio.create_task(forms.are_within("a", given_up))
    await asyncio.sleep(0)
    os.write(writing, b".")
    assert await again
    for file in (began, beginning, reading, writing):
        os.close(file)


async def test_one_that_the_machine_had_no_time_for_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    forms = Forms()
    with monkeypatch.context() as busy:
        busy.setattr(form_bounds, "MOST_S", 0.05)
        assert not await forms.are_within("a", signal.pause)
    assert await forms.are_within("a", dict)
