"""Replies per second by PyTorch, by vLLM in the learner's process and by Hugging Face's generate, weights updated.

Run `python -m benchmarks.rollouts [--model builtin|5m|10m|30m] [--rounds 3]`: the built-in policy, or a Llama of so
many million random parameters. Every round changes the weights first, as a PPO step does, so that feeding them to the
engine counts. Seconds are of this process's processor time, one thread; the engine's start stands apart.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from feedback.learning_settings import PPOSettings
from feedback.sandbox.world import training_prompts
from learner.policy import Policy, load_policy, save_policy
from learner.sampler import TorchSampler
from learner.starting_policy import WEIGHTS
from learner.vllm_sampler import VLLMSampler

NEW_TOKENS = 48
# Width, layers, heads.
SHAPES = {"5m": (256, 6, 8), "10m": (384, 6, 12), "30m": (512, 9, 8)}


def random_llama(name: str, like: Policy) -> Policy:
    """A Llama of random parameters with the built-in policy's words."""
    torch.manual_seed(0)
    width, layers, heads = SHAPES[name]
    config = LlamaConfig(
        vocab_size=len(like.tokenizer), hidden_size=width, intermediate_size=width * 11 // 4, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=512, tie_word_embeddings=False,
        eos_token_id=like.end_ids[0],
    )  # fmt: skip
    return Policy(LlamaForCausalLM(config).eval(), like.tokenizer, like.end_ids)


def measure(name: str, policy: Policy, rounds: int, draw: Callable[[int], int]) -> None:
    """Time `rounds` draws, one before them uncounted; `draw` answers how many tokens it drew."""
    draw(0)
    before, tokens = time.process_time(), 0
    for round_number in range(1, rounds + 1):
        with torch.no_grad():
            for parameter in policy.model.parameters():
                parameter.mul_(1.0001)
        tokens += draw(round_number)
    seconds = time.process_time() - before
    print(f"{name:<12} {seconds / rounds:7.2f} CPU-s a round {tokens / seconds:9.0f} tokens per CPU-s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=("builtin", *SHAPES), default="builtin")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=256)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    policy = load_policy(WEIGHTS, "cpu")
    if asked.model != "builtin":
        policy = random_llama(asked.model, policy)
    prompts = [policy.encode_chat(prompt.messages) for prompt in training_prompts()]
    prompts = [prompts[number % len(prompts)] for number in range(asked.episodes)]
    size = sum(parameter.numel() for parameter in policy.model.parameters())
    print(f"{size / 1e6:.1f} million parameters, {asked.episodes} replies of at most {NEW_TOKENS} tokens a round")

    def by_torch(seed: int) -> int:
        sampler = TorchSampler(policy.model, policy.end_ids)
        drawn = sampler.sample(prompts, max_new_tokens=NEW_TOKENS, temperature=1.0, seed=seed)
        return int(drawn.episodes.reply_lengths_B.sum())

    def by_generate(seed: int) -> int:
        torch.manual_seed(seed)
        width = max(map(len, prompts))
        tokens = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        end = policy.end_ids[0]
        drawn = policy.model.generate(
            tokens, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=NEW_TOKENS, eos_token_id=end,
            pad_token_id=end,
        )[:, width:]  # fmt: skip
        # What stands behind the first end is padding.
        return int(((drawn == end).cumsum(dim=1) - (drawn == end).long() == 0).sum())

    measure("torch", policy, asked.rounds, by_torch)
    measure("generate", policy, asked.rounds, by_generate)
    with tempfile.TemporaryDirectory() as folder:
        save_policy(policy, folder)
        before = time.process_time()
        settings = PPOSettings(max_prompt_tokens=64, max_new_tokens=NEW_TOKENS)
        engine = VLLMSampler(policy.model, policy.end_ids, Path(folder), settings)
        print(f"vllm starts in {time.process_time() - before:.0f} CPU-s")

        def by_vllm(seed: int) -> int:
            drawn = engine.sample(prompts, max_new_tokens=NEW_TOKENS, temperature=1.0, seed=seed)
            return int(drawn.episodes.reply_lengths_B.sum())

        measure("vllm", policy, asked.rounds, by_vllm)


if __name__ == "__main__":
    main()
