"""`GET /v1/ratings`: how the versions compare, from the votes."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from serve.auth import guarded
from serve.routes.dependencies import Parts

router = APIRouter(route_class=guarded("vote"))


class VersionRating(BaseModel):
    """Bradley-Terry rating of one version on the Elo scale; none when no votes link it."""

    version: str
    rating: float | None
    interval: list[float] | None
    votes: int
    wins: int
    ties: int


class RatingView(VersionRating):
    """The same under one objective."""

    objective: str


class Ratings(BaseModel):
    object: Literal["list"] = "list"
    data: list[RatingView]


class LengthControlled(BaseModel):
    """The ratings of one objective where both replies are as long; and what it is worth in Elo to be twice as long."""

    objective: str
    ratings: list[VersionRating]
    twice_as_long: float | None
    interval: list[float] | None


class AllLengthControlled(BaseModel):
    object: Literal["list"] = "list"
    data: list[LengthControlled]


@router.get("/v1/ratings/length-controlled")
async def get_length_controlled(parts: Parts) -> AllLengthControlled:
    """The ratings controlled for the length of replies. Every counted vote is read."""
    from feedback import length_controlled

    by_objective = await parts.record.search(length_controlled.current)
    return AllLengthControlled(
        data=[LengthControlled(objective=objective, **found.as_json()) for objective, found in by_objective.items()]
    )


@router.get("/v1/ratings")
async def get_ratings(parts: Parts) -> Ratings:
    """Rating of each version per objective, with a 95 % interval and counts."""
    # scipy comes with it: not before it is needed.
    from feedback import ratings

    by_objective = await parts.record.read_once(ratings.current)
    return Ratings(
        data=[
            RatingView(objective=objective, **rating.as_json())
            for objective, rated in by_objective.items()
            for rating in rated
        ]
    )
