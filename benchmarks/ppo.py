"""PPO beside TRL 1.12.0's: episodes per CPU-second of one thread, or per second of a GPU, and reward at equal KL.

Same starting policy, the same function as reward (a preference model's overall score, read at the last token), the same
prompts and settings, the peer's gradients clipped as ours are; both checked to score alike. `--policy` is the built-in
one of half a million parameters, a Llama of 30 million, trained for a few minutes on the world's dialogues and kept
in `--folder`, or one of half a billion random parameters, for its speed and memory. The policies that both sides have
after each step are looked at on held-out prompts, off the clock, and compared where their KL from the start is equal.
On a GPU both compute in bf16 by autocast. Our rollouts are PyTorch's, or with `"rollouts": "vllm"` among `--ppo` an
engine's, whose start counts. Prints a line of JSON for each run, in turns, and what both come to.
"""

import argparse
import json
import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from benchmarks.learning_in_the_sandbox import gold_figures, replies, simulate_votes
from benchmarks.peers import environment
from benchmarks.peers.clock import Clock
from feedback.learning_settings import PPOSettings, PreferenceSettings
from feedback.objectives import OVERALL
from feedback.sandbox.dialogues import dialogues
from feedback.sandbox.world import held_out_prompts
from learner.hardware import prepare_training
from learner.language_model import reply_logprobs
from learner.number_format import forward_format, forward_passes
from learner.policy import load_policy, save_policy
from learner.ppo import PPOStep, train_ppo
from learner.preference_judging import calibrate
from learner.preference_model import PreferenceModel
from learner.preference_training import train_preference_model
from learner.prompts import PromptPool, TrainingPrompt
from learner.sequences import Episodes
from learner.starting_policy import WEIGHTS
from learner.starting_policy.train import encode, train
from learner.vllm_sampler import VLLMSampler

TRL = "1.12.0"
MAX_NEW_TOKENS = 48
PEER_ROWS = 256
"""Rollouts that the peer draws and scores at once."""


@dataclass(frozen=True)
class Task:
    """What both sides start from."""

    start: Path
    preference: PreferenceModel
    prompts: list[TrainingPrompt]
    folder: Path
    device: str


def make_task(start: Path, votes: int, folder: Path, device: str) -> Task:
    """A preference model on the start's trunk, from votes on the built-in policy's replies, and its export."""
    policy = load_policy(start, device=device)
    voted = simulate_votes(load_policy(WEIGHTS, device="cpu"), votes, seed=1)
    learning_rate = 1e-3 if start == WEIGHTS else 1e-4
    settings = PreferenceSettings(readout="last", start_logprob_feature=False, learning_rate=learning_rate)
    model = train_preference_model(policy, [v for i, v in enumerate(voted) if i % 8], settings, seed=1)
    calibrate(model, policy, voted[::8], settings)
    task = Task(start, model, [TrainingPrompt(one.messages, one.objective) for one in voted], folder, device)
    model.trunk.save_pretrained(folder / "reward")
    save_file(_head(model), folder / "head.safetensors")
    return task


def _head(model: PreferenceModel) -> dict[str, torch.Tensor]:
    """The overall score as PPO takes it, as two linear layers with a SiLU in between: centring and scales folded in."""
    column = model.shape.columns.index(OVERALL)
    scale = (model.temperature_O * model.scale_O)[column]
    return {
        "inner.weight": model.head_in.weight.detach().contiguous(),
        "inner.bias": model.head_in.bias.detach().contiguous(),
        "outer.weight": (model.head_out_E_H_O[0, :, column] / scale)[None].detach().contiguous(),
        "outer.bias": (-model.center_O[column] / scale)[None].detach(),
    }


def rewards(model: PreferenceModel, episodes: Episodes) -> torch.Tensor:
    return model.combine(model.score(episodes), {OVERALL: 1.0})


def tandem(task: Task, settings: PPOSettings, seed: int, *, keep_policies: bool) -> dict[str, Any]:
    """Seconds of the training call, and the folders of the policies that it had after each step, if they are kept."""
    policy, start = load_policy(task.start, device=task.device), load_policy(task.start, device=task.device)
    clock = Clock(task.device)
    folders: list[Path] = []

    def keep(done: PPOStep, state: object) -> None:
        with clock.stopped():
            folders.append(task.folder / f"tandem-{done.step}")
            save_policy(policy, folders[-1])

    on_step = keep if keep_policies else None
    if settings.rollouts == "vllm":
        save_policy(start, task.folder / "published")
    clock.start()
    with forward_passes(forward_format("auto", policy.model.device), policy.model.device):
        sampler = None
        if settings.rollouts == "vllm":
            sampler = VLLMSampler(policy.model, policy.end_ids, task.folder / "published", settings)
        train_ppo(
            policy, start.model, task.preference, task.prompts, settings, seed=seed, sampler=sampler, on_step=on_step
        )
    return {"folders": folders, **clock.read()}


def trl(
    python: Path, task: Task, settings: PPOSettings, seed: int, how: dict[str, Any], *, keep_policies: bool
) -> dict[str, Any]:
    """The same of the peer."""
    start = load_policy(task.start, device="cpu")
    pool = PromptPool(
        task.prompts,
        start,
        harmless_share=settings.harmless_prompt_share,
        max_tokens=settings.max_prompt_tokens,
        seed=seed,
    )
    drawn = [pool.draw(step, settings.episodes_per_step) for step in range(settings.steps)]
    probe = [[*prompt, *start.encode_reply("Paris.")] for prompt in drawn[0][:8]]
    job = how | {
        "start": str(task.start), "reward_trunk": str(task.folder / "reward"), "seed": seed,
        "out": str(task.folder / "trl"), "device": task.device, "keep_policies": keep_policies,
        "reward_head": str(task.folder / "head.safetensors"), "settings": settings.model_dump(mode="json"),
        "prompts": [prompt for step in drawn for prompt in step], "probe": probe,
    }  # fmt: skip
    result = environment.run(python, "trl_ppo.py", job)
    probed = Episodes.pad([tokens[:-1] for tokens in probe], [tokens[-1:] for tokens in probe], task.device)
    torch.testing.assert_close(
        torch.tensor(result["probe"]), rewards(task.preference, probed).cpu(), atol=1e-3, rtol=1e-3
    )
    return result | {"folders": list(map(Path, result["folders"]))}


@torch.no_grad()
def course(task: Task, folders: list[Path], replies_each: int, seed: int) -> list[tuple[float, float]]:
    """KL and reward on held-out prompts of the start and of each policy, the same random numbers for all of them."""
    prompts = [prompt for prompt in held_out_prompts() for _ in range(replies_each)]
    start = load_policy(task.start, device="cpu")
    encoded = [start.encode_chat(prompt.messages) for prompt in prompts]
    points = []
    for policy in (load_policy(folder, device="cpu") for folder in [task.start, *folders]):
        episodes = Episodes.pad(encoded, replies(policy, prompts, seed))
        logprobs_N, start_logprobs_N = (reply_logprobs(one.model, episodes) for one in (policy, start))
        kl_nats = float((logprobs_N - start_logprobs_N).sum()) / len(episodes)
        points.append((kl_nats, float(rewards(task.preference, episodes).mean())))
    return points


def reward_at_equal_kl(ours: list[tuple[float, float]], theirs: list[tuple[float, float]]) -> float:
    """How much more reward we have than they, mean over the KLs that both came to; linear between points."""
    most = min(max(kl for kl, _ in points) for points in (ours, theirs))
    at = np.linspace(0, most, 101)
    mine, others = (np.interp(at, *np.array(sorted(points)).T) for points in (ours, theirs))
    return float((mine - others).mean())


def gold(task: Task, folder: Path, seed: int) -> dict[str, Any]:
    """The gold judge's figures, win rate against the start."""
    start, policy = (load_policy(one, device="cpu") for one in (task.start, folder))
    prompts = [prompt for prompt in held_out_prompts() for _ in range(4)]
    figures = gold_figures(policy, replies(start, prompts, seed + 1), seed + 2)
    return {name: figures[name] for name in ("correct", "rude", "complies", "refuses", "win_rate")}


def thirty_million(folder: Path, dialogue_count: int) -> Path:
    """A Llama of 30M parameters that has seen the world's dialogues for a few minutes; made once."""
    out = folder / f"llama-30m-{dialogue_count}"
    if not (out / "config.json").exists():
        torch.manual_seed(1)
        tokenizer = load_policy(WEIGHTS, device="cpu").tokenizer
        config = LlamaConfig.from_pretrained(
            WEIGHTS, hidden_size=512, intermediate_size=1408, num_hidden_layers=9, num_attention_heads=8,
            num_key_value_heads=8, head_dim=64,
        )  # fmt: skip
        model = LlamaForCausalLM(config).float()
        sequences = encode(tokenizer, list(dialogues(dialogue_count, 1)))
        matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        matmul.fp32_precision = "bf16"
        train(
            model, tokenizer, sequences, epochs=1, batch_size=16, peak_lr=1e-3, seed=1,
            on_step=lambda done, total, loss: print(done, total, round(loss, 3)) if done % 20 == 0 else None,
        )  # fmt: skip
        matmul.fp32_precision = "ieee"
        tokenizer.save_pretrained(out)
        model.save_pretrained(out)
    return out


def half_a_billion(folder: Path) -> Path:
    """Random parameters in the shape of Qwen2.5's policy of .5 billion, its 152 thousand words too; made once."""
    out = folder / "qwen-500m"
    if not (out / "config.json").exists():
        torch.manual_seed(1)
        like = load_policy(WEIGHTS, device="cpu")
        config = Qwen2Config(
            vocab_size=151_936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
            num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=None,
            eos_token_id=like.end_ids[0], pad_token_id=like.tokenizer.pad_token_id,
        )  # fmt: skip
        like.tokenizer.save_pretrained(out)
        Qwen2ForCausalLM(config).save_pretrained(out)
    return out


def start_folder(name: str, folder: Path, dialogue_count: int) -> Path:
    """Where the policy of this name lies."""
    if name == "30m":
        return thirty_million(folder, dialogue_count)
    return half_a_billion(folder) if name == "500m" else WEIGHTS


def say(**figures: Any) -> None:
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()}
    print(json.dumps(rounded), flush=True)


def main() -> None:
    prepare_training(threads=1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", choices=["built-in", "30m", "500m"], default="built-in")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--folder", type=Path, default=environment.ROOT / ".benchmarks")
    parser.add_argument("--votes", type=int, default=600)
    parser.add_argument("--dialogues", type=int, default=3000, help="that the 30M policy is trained on")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--replies", type=int, default=8, help="to each held-out prompt; 0 measures speed alone")
    parser.add_argument("--ppo", type=json.loads, default={}, help="PPO settings")
    parser.add_argument("--attention", choices=["sdpa", "eager"], help="of the peer; by itself sdpa on a GPU only")
    ways = ["bf16", "ieee", "autocast"]
    parser.add_argument(
        "--matmul", choices=ways, default="bf16", help="oneDNN's switch in the peer, or autocast to bf16"
    )
    given = parser.parse_args()
    python = environment.prepare(TRL)
    given.folder.mkdir(parents=True, exist_ok=True)
    start = start_folder(given.policy, given.folder, given.dialogues)
    settings = PPOSettings(**({"steps": 4, "max_new_tokens": MAX_NEW_TOKENS, "rehearsal_weight": 0.0} | given.ppo))
    task = make_task(start, given.votes, given.folder / given.policy, given.device)
    attention = given.attention or ("sdpa" if given.device == "cuda" else "eager")
    how = {"attention": attention, "matmul": given.matmul, "rows": min(PEER_ROWS, settings.episodes_per_step)}
    episodes = settings.steps * settings.episodes_per_step
    speeds: dict[str, list[float]] = {"tandem": [], "trl": []}
    more_reward: list[float] = []
    for number in range(given.rounds):
        seed = number + 1
        courses = {}
        for name in ("tandem", "trl") if number % 2 == 0 else ("trl", "tandem"):
            keep = given.replies > 0
            if name == "tandem":
                done = tandem(task, settings, seed, keep_policies=keep)
            else:
                done = trl(python, task, settings, seed, how, keep_policies=keep)
            speeds[name].append(episodes / done["seconds"])
            say(round=number, who=name, episodes_per_s=speeds[name][-1], peak_gb=done["peak_gb"])
            if given.replies:
                courses[name] = course(task, done["folders"], given.replies, seed * 10)
                kl_and_reward = [[round(kl, 3), round(reward, 3)] for kl, reward in courses[name]]
                figures = gold(task, done["folders"][-1], seed * 10)
                say(round=number, who=name, kl_and_reward_by_step=kl_and_reward, **figures)
        if given.replies:
            more_reward.append(reward_at_equal_kl(courses["tandem"], courses["trl"]))
            say(round=number, more_reward_at_equal_kl=more_reward[-1])
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    say(policy=given.policy, episodes=episodes, **medians, ratio=medians["tandem"] / medians["trl"])
    if len(more_reward) > 1:
        error = statistics.stdev(more_reward) / len(more_reward) ** 0.5
        say(more_reward_at_equal_kl=statistics.mean(more_reward), standard_error=error)


if __name__ == "__main__":
    main()
