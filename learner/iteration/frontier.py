"""At the end of evaluating: what the helpful-harmless trade-off looks like with this iteration's preference models."""

from typing import Any

import orjson

from learner.evaluation import spaced
from learner.frontier import AXES, Measure
from learner.hardware import matmul_precision
from learner.iteration.candidate import Judges
from learner.iteration.examples import Votes
from learner.iteration.rehearsing import TokenIds
from learner.iteration.run import Run, write_json
from learner.iteration.versions import trainable
from learner.policy import Policy
from learner.ppo import train_ppo

FRONTIER = "frontier.json"


def measure_frontier(
    this: Run, votes: Votes, start: Policy, judges: Judges, candidate: Policy, rehearse_on: TokenIds
) -> dict[str, Any] | None:
    """The frontier, with the starting policy and the candidate beside it; None where the votes know one objective only
    or the settings want none."""
    settings = this.learner.evaluation
    if settings.frontier == "none" or any(axis not in judges.preference_model.shape.objectives for axis in AXES):
        return None
    chosen = spaced(votes.held_out_prompts(), settings.frontier_prompts)
    asked = [start.encode_chat(one.messages)[-this.learner.ppo.max_prompt_tokens :] for one in chosen]
    watch = judges.watch
    if watch is not None and any(axis not in watch.shape.objectives for axis in AXES):
        watch = None
    measure = Measure(judges.preference_model, watch, asked, settings, this.seed)
    with matmul_precision(settings.matmul_precision, start.model):
        if settings.frontier == "reranked":
            points = measure.reranked(start, settings.frontier_weights, settings.frontier_replies)
        else:
            points = _trained(this, votes, start, judges, measure, rehearse_on)
        found = {
            "method": settings.frontier,
            "prompts": len(asked),
            "points": points,
            "start": measure.of(start),
            "candidate": measure.of(candidate),
        }
    this.progress.tell("frontier", found)
    return found


def _trained(
    this: Run, votes: Votes, start: Policy, judges: Judges, measure: Measure, rehearse_on: TokenIds
) -> list[dict[str, Any]]:
    """A point for each weight: a policy trained for it by a short run of PPO. Points done before a kill are kept."""
    settings, file = this.learner.evaluation, this.folder / FRONTIER
    points: list[dict[str, Any]] = orjson.loads(file.read_bytes()) if file.exists() else []
    pool = votes.prompts("train")
    for weight in settings.frontier_weights[len(points) :]:
        policy = trainable(this, start, 0)
        short = {
            "steps": settings.frontier_steps,
            "reward_weights": dict(zip(AXES, (1 - weight, weight), strict=True)),
            "harm_ceiling": None,
            "harmless_floor": None,
        }
        ppo = this.learner.ppo.model_copy(update=short)
        train_ppo(policy, start.model, judges.preference_model, pool, ppo, seed=this.seed, rehearse_on=rehearse_on)
        points.append(measure.of(policy, harmless_weight=weight))
        write_json(file, points)
    return points
