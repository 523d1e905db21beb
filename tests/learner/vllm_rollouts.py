"""What a vLLM sampler in this process draws, as JSON, before and after weights change: run by `test_vllm_sampler`.

A process of its own, since vLLM keeps the process group, threads and memory of the one it was started in.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from feedback.learning_settings import LoRASettings, PPOSettings
from learner.language_model import reply_logprobs
from learner.lora import copy_sharing_frozen, with_adapter
from learner.policy import Policy, load_policy, save_policy
from learner.sampler import Sampler, TorchSampler
from learner.starting_policy import WEIGHTS
from learner.vllm_sampler import VLLMSampler

SETTINGS = PPOSettings(
    max_prompt_tokens=400,
    max_new_tokens=24,
    episodes_per_step=24,
    episodes_per_minibatch=24,
    rollout_cache_bytes=1 << 26,
)
TEXTS = ("What is 2 plus 3?", "How do I cut a cake?", "Name three colours.", "What is the opposite of hot?")


def draw(policy: Policy, sampler: Sampler, temperature: float, seed: int = 3) -> dict[str, Any]:
    """Replies, and how far the sampler's log-probabilities are from the trainer's."""
    prompts = [policy.encode_chat([{"role": "user", "content": text}]) for text in TEXTS * 6]
    samples = sampler.sample(prompts, max_new_tokens=24, temperature=temperature, seed=seed)
    mask_B_R = samples.episodes.reply_mask_B_R
    with torch.no_grad():
        trainers_N = reply_logprobs(policy.model, samples.episodes, temperature or 1.0)
    return {
        "replies": samples.replies(),
        "difference": float((trainers_N - samples.logprobs_B_R[mask_B_R]).abs().max()),
        "padding": float(samples.logprobs_B_R[~mask_B_R].abs().sum()),
        "finished": [
            bool(end) == (reply[-1] in policy.end_ids)
            for reply, end in zip(samples.replies(), samples.finished_B, strict=True)
        ],
    }


def move(policy: Policy, seed: int, by: float) -> None:
    """Change what is trained, as an optimiser would, far enough to show in every reply."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * by)


def main() -> None:
    torch.set_num_threads(1)
    base = load_policy(WEIGHTS, "cpu")
    base.model.requires_grad_(False)
    model = with_adapter(copy_sharing_frozen(base.model), LoRASettings(rank=4, alpha=8), seed=1)
    policy = Policy(model, base.tokenizer, base.end_ids)
    folder = Path(sys.argv[1])
    save_policy(base, folder)
    torch.manual_seed(11)
    expected = torch.rand(1).item()
    torch.manual_seed(11)
    sampler = VLLMSampler(model, policy.end_ids, folder, SETTINGS)
    found: dict[str, Any] = {"generator_kept": torch.rand(1).item() == expected}
    torch_sampler = TorchSampler(model, policy.end_ids)
    for name in ("before", "after"):
        found[name] = {str(temperature): draw(policy, sampler, temperature) for temperature in (0.0, 0.7, 1.0)}
        found[name]["again"] = draw(policy, sampler, 1.0)["replies"]
        found[name]["other_seed"] = draw(policy, sampler, 1.0, seed=4)["replies"]
        found[name]["torch_greedy"] = draw(policy, torch_sampler, 0.0)["replies"]
        move(policy, seed=2, by=0.2)
    # All weights, the output layer too: what an engine with a tied one would go on serving the old of.
    model.requires_grad_(True)
    move(policy, seed=5, by=0.03)
    found["all"] = {"0.0": draw(policy, sampler, 0.0), "torch_greedy": draw(policy, torch_sampler, 0.0)["replies"]}
    prompts = [policy.encode_chat([{"role": "user", "content": text}]) for text in TEXTS]
    halves = [
        sampler.sample(prompts[rows], max_new_tokens=24, temperature=1.0, seed=9, first_row=rows.start).replies()
        for rows in (slice(0, 2), slice(2, 4))
    ]
    whole = sampler.sample(prompts, max_new_tokens=24, temperature=1.0, seed=9).replies()
    found["rows"] = whole == halves[0] + halves[1]
    # More tokens than vLLM puts into one step.
    long = [(prompts[0] * 400)[row : row + 400] for row in range(24)]
    halves = [
        sampler.sample(long[rows], max_new_tokens=8, temperature=1.0, seed=9, first_row=rows.start).replies()
        for rows in (slice(0, 12), slice(12, 24))
    ]
    whole = sampler.sample(long, max_new_tokens=8, temperature=1.0, seed=9).replies()
    found["long"] = whole == halves[0] + halves[1]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
