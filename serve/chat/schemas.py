"""JSON schemas that say nothing: engines fail at them when they have begun to write."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote


def says_nothing(schema: Any) -> bool:
    """Whether a schema refers to itself before it says what is wanted, as `{"$ref": "#"}` does.

    One that comes back to itself within a property or an item is an ordinary one, of a tree or a list. What cannot be
    followed is the engine's to judge.
    """
    seen: set[int] = set()
    here = schema
    while isinstance(here, Mapping) and id(here) not in seen:
        seen.add(id(here))
        here = _stands_for(here, schema)
    return isinstance(here, Mapping)


def _stands_for(schema: Mapping[str, Any], root: Any) -> Any:
    """The one schema that this one is by another name, or None."""
    if isinstance(schema.get("$ref"), str):
        return _target(root, schema["$ref"])
    for name in ("allOf", "anyOf", "oneOf"):
        parts = schema.get(name)
        if isinstance(parts, list) and len(parts) == 1:
            return parts[0]
    return None


def _target(root: Any, reference: str) -> Any:
    """What a JSON pointer within the schema leads to; None where it leads nowhere or out of it."""
    if reference != "#" and not reference.startswith("#/"):
        return None
    found = root
    for step in reference.split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and re.fullmatch("[0-9]{1,9}", name) and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, Mapping):
            found = found.get(name)
        else:
            return None
    return found
