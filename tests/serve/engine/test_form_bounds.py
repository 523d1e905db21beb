"""Forms that replies are to keep to: what takes too much is known without taking it."""

import asyncio
import os
from collections.abc import Callable

import pytest

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
