"""What an iteration refuses before it trains anything: settings that do not go with its votes, its policy or where they
run. What is wrong with settings by themselves is refused when they are read."""

from collections.abc import Collection, Mapping

from feedback.objectives import OVERALL
from learner.errors import TrainingDataInvalid
from learner.gradient_checkpointing import require_layers
from learner.iteration.candidate import reward_weights
from learner.iteration.examples import Votes
from learner.iteration.preferences import objectives_of
from learner.iteration.run import Run
from learner.iteration.versions import require_servable
from learner.lora import require_targets
from learner.policy import Policy
from learner.ppo import require_possible
from learner.prompts import drawn_harmless


def refuse(this: Run, votes: Votes, start: Policy) -> None:
    """Raises InvalidRequest or PolicyInvalid for what would only be found out after some training."""
    learner = this.learner
    require_servable(this)
    for lora in (learner.preference.lora, learner.ppo.lora):
        require_targets(start.model, lora)
    if learner.gradient_checkpointing:
        require_layers(start.model)

    learnt = [one for one in votes.comparisons("train") if one.weight > 0]
    if not learnt:
        raise TrainingDataInvalid("no vote to learn from is on two replies with words in them: gather more votes")
    objectives = objectives_of(learnt)
    if not objectives:
        raise TrainingDataInvalid("all votes to learn from are ties, which prefer nothing: gather more votes")
    if not any(one.objective in objectives for one in votes.comparisons("heldout")):
        raise TrainingDataInvalid(
            f"no held-out vote under {' or '.join(objectives)} to judge the preference model by: gather more votes"
        )
    _require_weight("preference", learner.preference.objective_weights, objectives)
    columns = (*objectives, OVERALL)
    weights = reward_weights(learner, columns)
    if learner.trainer == "dpo":
        _require_weight("dpo", learner.dpo.objective_weights, objectives)
    else:
        ppo = learner.ppo.model_copy(update={"reward_weights": weights})
        require_possible(ppo, columns, _most_drawn(this, votes), this.processes.count)


def _require_weight(section: str, weights: Mapping[str, float], objectives: Collection[str]) -> None:
    if sum(weights.get(name, 0.0) for name in objectives) <= 0:
        raise TrainingDataInvalid(
            f"learner.{section}.objective_weights gives no weight to {' or '.join(objectives)}, "
            "the only objectives under which a vote to learn from prefers a reply"
        )


def _most_drawn(this: Run, votes: Votes) -> int:
    """How many of a step's prompts ask for harm at most: of those that as many raters judged under harmless as
    under others it is not known yet."""
    ppo, voted = this.learner.ppo, votes.voted("train")
    harmful = any(one.under_harmless >= one.under_others for one in voted)
    others = any(one.under_harmless < one.under_others for one in voted)
    return drawn_harmless(ppo.episodes_per_step // ppo.replies_per_prompt, ppo.harmless_prompt_share, harmful, others)
