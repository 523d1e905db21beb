"""Writes docs/settings.md from the settings themselves: `python -m feedback.settings_reference > docs/settings.md`."""

import ast
import inspect
import json
import types
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from feedback.settings import DEFAULT_HOME, Settings

INTRODUCTION = """# Settings

Made by `make docs`; a test fails when it is out of step.

A value comes from, strongest first: the command line; the environment variable beside it; `tandem.toml` in the current
folder; `tandem.toml` in the home; the default. Each process reads them once, when it starts. A name or a value that is
not known here stops the process with a line that says which. In `tandem.toml` the names are those of the tables below,
the section as a table of its own:

```toml
policy = "builtin"

[serve]
port = 8080

[learner.ppo]
steps = 12
```

In the environment lists and tables stand as JSON, and an empty variable is as one that is not set. Where a value may be
none, the word says so: `interval_s = "none"`, `TANDEM_LOOP__INTERVAL_S=none`.
"""
BOUNDS = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))


def render() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *sections(Settings, (), "The whole")])


def sections(model: type[BaseModel], path: tuple[str, ...], title: str) -> Iterator[str]:
    """The table of a section's own values, then the sections below it."""
    said = docstrings(model)
    below = {name: field for name, field in model.model_fields.items() if is_section(field)}
    own = {name: field for name, field in model.model_fields.items() if name not in below}
    lines = [f"## `[{'.'.join(path)}]`: {title}" if path else f"## {title}", ""]
    if own:
        lines += ["| name | environment | type | default | |", "|---|---|---|---|---|"]
        lines += [row(name, field, path, said[name]) for name, field in own.items()]
        yield "\n".join([*lines, ""])
    for name, field in below.items():
        yield from sections(field.annotation, (*path, name), first_sentence(said[name]))  # type: ignore[arg-type]


def docstrings(model: type[BaseModel]) -> dict[str, str]:
    """What stands below each field, by its name. KeyError where it is asked of a field that has nothing: every setting
    says what it does.

    pydantic would read them (`use_attribute_docstrings`), but whenever a process starts: a twentieth of its imports."""
    said = {}
    for made_of in reversed(model.__mro__):
        if not made_of.__module__.startswith("feedback."):
            continue
        definition = cast(ast.ClassDef, ast.parse(inspect.getsource(made_of)).body[0])
        for above, below in pairwise(definition.body):
            match above, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    said[name] = " ".join(text.split())
    return said


def is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def row(name: str, field: FieldInfo, path: tuple[str, ...], said: str) -> str:
    variable = "TANDEM_" + "__".join([*path, name]).upper()
    cells = (f"`{name}`", f"`{variable}`", type_said(field), default_said(field), said)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def type_said(field: FieldInfo) -> str:
    """`int, at least 1, at most 8` or `"auto", "cpu" or "cuda"`."""
    said = annotation_said(field.annotation)
    for bound, word in BOUNDS:
        limits = [getattr(limit, bound) for limit in field.metadata if hasattr(limit, bound)]
        said += "".join(f", {word} {limit}" for limit in limits)
    return said


def annotation_said(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_said(FieldInfo.from_annotation(annotation))
    if origin is Literal:
        *others, last = (f"`{choice}`" for choice in arguments)
        return f"{', '.join(others)} or {last}" if others else last
    if origin in (Union, types.UnionType):
        return " or ".join(annotation_said(argument) for argument in arguments)
    if origin in (dict, list):
        return f"{'table' if origin is dict else 'list'} of {annotation_said(arguments[-1])}"
    if origin is tuple:
        count = "list" if arguments[-1] is Ellipsis else len(arguments)
        return f"{count} of {annotation_said(arguments[0])}"
    return {type(None): "none", Path: "path"}.get(annotation) or annotation.__name__


def default_said(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    # Not the validated default: that is absolute, and so differs from one folder to the next.
    return f"`{f'./{DEFAULT_HOME}' if value == DEFAULT_HOME else json.dumps(value, default=str)}`"


def first_sentence(said: str) -> str:
    return said.partition(". ")[0].rstrip(".")


if __name__ == "__main__":
    print(render(), end="")  # noqa: T201
