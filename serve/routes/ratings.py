"""`GET /v1/ratings`: how the versions compare, from the votes."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from serve.auth import guarded
from serve.routes.dependencies import Parts

router = APIRouter(route_class=guarded("vote"))


class RatingView(BaseModel):
    """Bradley-Terry rating of one version under one objective on the Elo scale; none when no votes link it."""

    version: str
    objective: str
    rating: float | None
    interval: list[float] | None
    votes: int
    wins: int
    ties: int


class Ratings(BaseModel):
    object: Literal["list"] = "list"
    data: list[RatingView]


@router.get("/v1/ratings")
async def get_ratings(parts: Parts) -> Ratings:
    """Rating of each version per objective, with a 95 % interval and counts."""
    # scipy comes with it: not before it is needed.
    from feedback import ratings

    by_objective = await parts.record.read(ratings.current)
    return Ratings(
        data=[
            RatingView(objective=objective, **rating.as_json())
            for objective, rated in by_objective.items()
            for rating in rated
        ]
    )
