"""Which chat templates take a system prompt, as the templates of published models are written."""

import json
from pathlib import Path

import pytest

from feedback.chat_template import check_takes_system_prompt
from feedback.errors import PolicyInvalid
from feedback.settings import EngineSettings, ServeSettings, Settings
from learner.prepare import BUILTIN, PLAIN_TEMPLATE

TURNS = "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
REFUSES = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TURNS
)
ALTERNATES = (
    "{{ bos_token + '[BEGIN]' }}{% if tools is not none %}{{ tools | tojson }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}{{ message['content'] }}{% endfor %}"
)
LEAVES_OUT = "{% for message in messages if message['role'] != 'system' %}{{ message['content'] | trim }}{% endfor %}"
OF_PARTS = (
    "{% for message in messages %}{% for part in message['content'] if part.type == 'text' %}{{ part.text }}"
    "{% endfor %}{% endfor %}"
)
MARKED = TURNS.replace("{{ message['content'] }}", "{%- generation -%}{{ message['content'] }}{% endgeneration %}")
BROKEN = "{{ nosuch.name }}" + TURNS


def settings(prompt: str = "Be kind.", *arguments: str) -> Settings:
    return Settings(serve=ServeSettings(system_prompt=prompt), engine=EngineSettings(extra_args=list(arguments)))


def folder_of(tmp_path: Path, template: str) -> Path:
    (tmp_path / "chat_template.jinja").write_text(template)
    return tmp_path


@pytest.mark.parametrize("template", [TURNS, OF_PARTS, MARKED, PLAIN_TEMPLATE, BROKEN, "{% if"])
def test_a_template_that_takes_one_or_cannot_be_tried_is_left_alone(tmp_path: Path, template: str) -> None:
    check_takes_system_prompt(folder_of(tmp_path, template), "v0", settings())


@pytest.mark.parametrize("said", ["[]", "{", '{"chat_template": 5}', '{"chat_template": [{"nam": "x"}, 3]}'])
def test_a_configuration_that_is_none_says_nothing(tmp_path: Path, said: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(said)
    check_takes_system_prompt(tmp_path, "v0", settings())


def test_the_built_in_policy_takes_one() -> None:
    check_takes_system_prompt(BUILTIN, "v0", settings())


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (REFUSES, r"refuses a system message \(System role not supported\)"),
        (ALTERNATES, r"refuses a system message \(Roles must alternate\)"),
        (LEAVES_OUT, "leaves a system message out"),
    ],
)
def test_one_that_takes_none_is_refused_with_a_system_prompt_alone(tmp_path: Path, template: str, said: str) -> None:
    folder = folder_of(tmp_path, template)
    with pytest.raises(PolicyInvalid, match=rf"serve\.system_prompt cannot be had with v7: its chat template {said}"):
        check_takes_system_prompt(folder, "v7", settings())
    check_takes_system_prompt(folder, "v7", settings(prompt=""))
    check_takes_system_prompt(folder, "v7", settings("Be kind.", "--chat-template=own.jinja"))


@pytest.mark.parametrize(
    "said", [REFUSES, [{"name": "tool_use", "template": TURNS}, {"name": "default", "template": REFUSES}]]
)
def test_a_template_in_the_tokenizers_settings_is_asked_too(tmp_path: Path, said: object) -> None:
    check_takes_system_prompt(tmp_path, "v0", settings())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": said}))
    with pytest.raises(PolicyInvalid):
        check_takes_system_prompt(tmp_path, "v0", settings())
