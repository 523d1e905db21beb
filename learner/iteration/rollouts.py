"""What writes the replies of PPO: a vLLM engine of the learner's own, or PyTorch."""

from learner.iteration.run import Run
from learner.iteration.versions import Candidate, ground_folder
from learner.sampler import Sampler
from learner.vllm_sampler import VLLMSampler, worth_it


def sampler_for(this: Run, candidate: Candidate) -> Sampler | None:
    """None: PPO's own. In several processes vLLM was never tried."""
    wanted = this.learner.ppo.rollouts
    alone = this.processes.count == 1
    model = candidate.policy.model
    if wanted == "torch" or (wanted == "auto" and not (alone and worth_it(model))):
        return None
    return VLLMSampler(
        model, candidate.policy.end_ids, ground_folder(this, candidate), this.learner.ppo, this.learner.threads
    )
