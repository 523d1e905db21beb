"""`GET /v1/models`: `tandem`, whatever serves, and each version that is loaded."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from feedback.schema import version_name
from serve.auth import guarded
from serve.chat.request import MODEL, UnknownModel
from serve.routes.dependencies import Parts

router = APIRouter(route_class=guarded("chat"))


class Model(BaseModel):
    """OpenAI's model object."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "tandem"


class Models(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/v1/models")
async def list_models(parts: Parts) -> Models:
    """What can be asked for now."""
    return Models(data=await _models(parts))


@router.get("/v1/models/{model}")
async def get_model(model: str, parts: Parts) -> Model:
    """One of them."""
    for known in await _models(parts):
        if known.id == model:
            return known
    raise UnknownModel(model)


async def _models(parts: Parts) -> list[Model]:
    made = {version: int(parts.following.made_at.get(version, 0)) for version in parts.pool.loaded()}
    serving = parts.pool.serving
    names = [Model(id=MODEL, created=made[serving])] if serving in made else []
    return names + [Model(id=f"{MODEL}@{version_name(version)}", created=made[version]) for version in made]
