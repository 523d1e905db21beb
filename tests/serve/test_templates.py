"""A policy whose chat template demands that roles alternate, as Mistral's and Gemma's do: what its clients are told."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve.conftest import Tandem, serving
from tests.serve.test_chat import chat

pytestmark = pytest.mark.engine

REASON = "Conversation roles must alternate user/assistant/user/assistant/..."
ALTERNATING = """
{{- bos_token -}}
{%- for message in messages -%}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
{{- raise_exception('REASON' + ' Not: ' + message['content']) -}}
{%- endif -%}
{{- '<|' + message['role'] + '|>' + message['content'] -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
""".replace("REASON", REASON)
ROLES = [["user", "user"], ["user", "assistant", "user", "user"], ["assistant"], ["system", "user"]]


@pytest.fixture(scope="module")
def alternating(tmp_path_factory: pytest.TempPathFactory, policy_folders: Path) -> Iterator[Tandem]:
    folders = tmp_path_factory.mktemp("alternating")
    shutil.copytree(policy_folders / "v0", folders / "v0")
    (folders / "v0" / "chat_template.jinja").write_text(ALTERNATING)
    with serving(tmp_path_factory.mktemp("tandem") / "home", folders) as running:
        yield running


def messages(roles: list[str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": f"xyzzy {role}"} for role in roles]


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_template_refuses_is_refused_in_its_own_words_and_is_in_no_log(
    alternating: Tandem, stream: bool
) -> None:
    with alternating.client("vote") as client:
        for roles in ROLES:
            for n in (1, 2):
                body = chat(messages=messages(roles), stream=stream, n=n)
                answer = client.post("/v1/chat/completions", json=body)
                error = answer.json()["error"]
                assert (answer.status_code, error["type"]) == (400, "invalid_request_error"), answer.text
                assert error["message"].startswith(REASON)
        body = chat(messages=messages(["user", "assistant", "user"]), stream=stream)
        assert client.post("/v1/chat/completions", json=body).status_code == 200
    assert {slot.state for slot in alternating.gateway.pool.slots} == {"ready"}
    logs = list((alternating.settings.home / "logs").glob("engine-*.log"))
    assert logs and not any(b"xyzzy" in log.read_bytes() for log in logs)
