"""What an engine's process says: of failures that nobody waited for, of settings that vLLM does not take."""

import asyncio
import gc
import re

import pytest

from feedback.errors import SettingsInvalid
from feedback.settings import EngineSettings
from serve.engine.server import check_arguments, name_failure


async def test_a_failure_that_nobody_waited_for_is_named_and_not_quoted(caplog: pytest.LogCaptureFixture) -> None:
    """A reply to someone who has left fails by words that may be theirs."""
    asyncio.get_running_loop().set_exception_handler(name_failure)

    async def fail() -> None:
        raise ValueError("not: xyzzy")

    task = asyncio.ensure_future(fail())
    await asyncio.wait([task])
    del task
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == ["Task exception was never retrieved: ValueError"]
    assert "xyzzy" not in caplog.text


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--nope", "1"], "unrecognized arguments: --nope"),
        (["--enable-auto-tool-choice"], "requires --tool-call-parser"),
        (["--tool-call-parser", "hermes", "--structured-outputs-config.disable_any_whitespace", "true"],
         "disable_any_whitespace is only supported"),
        (["--chat-template", "/not/there"], "/not/there"),
    ],
)  # fmt: skip
def test_arguments_that_vllm_does_not_take_are_told_in_its_words(arguments: list[str], why: str) -> None:
    with pytest.raises(SettingsInvalid, match=re.escape(why)) as refused:
        check_arguments(EngineSettings(extra_args=arguments), "cpu")
    assert "\n" not in refused.value.message and refused.value.param == "engine.extra_args"


def test_arguments_that_vllm_takes_are_taken() -> None:
    check_arguments(EngineSettings(extra_args=["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]), "cpu")
