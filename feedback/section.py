"""What every section of the settings is, and what can be said in one."""

import types
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator

NONE = "none"


class Section(BaseModel):
    """Frozen, strict about names, its numbers finite, and every field described by the docstring below it, which
    `settings_reference` reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _none_is_a_word(cls, said: Any) -> Any:
        """Neither TOML nor the environment has a null: a value that may be none is none where it says so."""
        if not isinstance(said, Mapping):
            return said
        return {name: None if value == NONE and cls._may_be_none(name) else value for name, value in said.items()}

    @classmethod
    def _may_be_none(cls, name: str) -> bool:
        field = cls.model_fields.get(name)
        return field is not None and types.NoneType in get_args(field.annotation)
