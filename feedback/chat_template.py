"""Whether a policy's chats may begin with instructions: its chat template is asked, as an engine would ask it."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import orjson

from feedback.errors import PolicyInvalid
from feedback.settings import Settings

INSTRUCTIONS = "Answer in one sentence."
# Marks a reply for whoever trains on it; plain Jinja does not know it.
GENERATION = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")


def check_takes_system_prompt(folder: Path, name: str, settings: Settings) -> None:
    """Raises PolicyInvalid where `serve.system_prompt` is set and the template in `folder`, that of version `name`,
    refuses it or leaves it out. One given to the engines, or that cannot be tried here, is the operator's to know.
    """
    own = any(argument.replace("_", "-").split("=")[0] == "--chat-template" for argument in settings.engine.extra_args)
    template = None if own or not settings.serve.system_prompt else _template(folder)
    refusal = template and _refusal(template)
    if refusal:
        raise PolicyInvalid(
            f"serve.system_prompt cannot be had with {name}: its chat template {refusal}", param="serve.system_prompt"
        )


def _template(folder: Path) -> str | None:
    """None where the folder holds none, as an adapter's, or none that can be read."""
    try:
        if (folder / "chat_template.jinja").exists():
            return (folder / "chat_template.jinja").read_text()
        found = orjson.loads((folder / "tokenizer_config.json").read_bytes()).get("chat_template")
        if isinstance(found, list):
            found = {one["name"]: one["template"] for one in found}.get("default")
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def _refusal(template: str) -> str | None:
    # Jinja comes with it: only whoever has set a system prompt needs it.
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(reason: str) -> NoReturn:
        raise TemplateError(reason)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda form: datetime.now().strftime(form)}

    def rendered(content: Any) -> str:
        messages = [{"role": "system", "content": content}, {"role": "user", "content": "Hello"}]
        return environment.from_string(GENERATION.sub("", template)).render(
            messages=messages, add_generation_prompt=True, tools=None, documents=None, bos_token="", eos_token=""
        )

    try:
        if INSTRUCTIONS in rendered(INSTRUCTIONS) or INSTRUCTIONS in rendered([{"type": "text", "text": INSTRUCTIONS}]):
            return None
    except TemplateError as error:
        # `raise_exception`, by which a template refuses, is the only one to raise this very class.
        return f"refuses a system message ({error})" if type(error) is TemplateError else None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None
    return "leaves a system message out"
