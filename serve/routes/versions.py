"""How a request names a policy version."""

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from feedback.schema import VERSION


def _named_version(name: str) -> str:
    if not re.fullmatch(VERSION, name):
        raise PydanticCustomError("policy_version", "{name} is not a policy version (v0, v1, ...)", {"name": name})
    return name


VersionName = Annotated[str, AfterValidator(_named_version), WithJsonSchema({"type": "string", "pattern": VERSION})]
