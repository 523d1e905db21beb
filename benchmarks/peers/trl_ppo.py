"""TRL's PPOTrainer on a job of `benchmarks.ppo`: policy, reward and prompts in, the policy after each step out."""

import json
import sys
import tempfile
from pathlib import Path

import torch
from clock import Clock
from datasets import Dataset
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer


class ClippedAdam(torch.optim.Adam):
    """Adam that scales the gradients of each group down to a norm first: the trainer itself has no clipping."""

    def __init__(self, groups: list[dict], max_norm: float) -> None:
        super().__init__(groups, betas=(0.9, 0.95), eps=1e-8, fused=True)
        self.max_norm = max_norm

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            nn.utils.clip_grad_norm_(group["params"], self.max_norm)
        return super().step(closure)


class Course(TrainerCallback):
    """Keeps the policy that there is after each step, off the clock."""

    def __init__(self, model: nn.Module, job: dict, clock: Clock) -> None:
        self.model = model
        self.job = job
        self.clock = clock
        self.folders: list[str] = []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if not self.job["keep_policies"]:
            return
        with self.clock.stopped():
            self.folders.append(f"{self.job['out']}-{len(self.folders) + 1}")
            self.model.save_pretrained(self.folders[-1])


def scorer(job: dict) -> nn.Module:
    """The reward: trunk and head as they were exported."""
    model = trunk(job)
    head = load_file(job["reward_head"])
    model.score = nn.Sequential(
        nn.Linear(*head["inner.weight"].T.shape), nn.SiLU(), nn.Linear(*head["outer.weight"].T.shape)
    )
    model.score[0].load_state_dict({"weight": head["inner.weight"], "bias": head["inner.bias"]})
    model.score[2].load_state_dict({"weight": head["outer.weight"], "bias": head["outer.bias"]})
    return model.eval()


def critic(job: dict) -> nn.Module:
    """The reward's trunk with values that begin at zero."""
    model = trunk(job)
    model.score = nn.Linear(model.config.hidden_size, 1)
    nn.init.zeros_(model.score.weight)
    nn.init.zeros_(model.score.bias)
    return model


def trunk(job: dict) -> nn.Module:
    return AutoModelForSequenceClassification.from_pretrained(
        job["reward_trunk"], num_labels=1, dtype=torch.float32, attn_implementation=job["attention"]
    )


def policy(job: dict) -> nn.Module:
    return AutoModelForCausalLM.from_pretrained(job["start"], dtype=torch.float32, attn_implementation=job["attention"])


@torch.no_grad()
def probe(reward: nn.Module, conversations: list[list[int]]) -> list[float]:
    """Scores of whole conversations, to be compared with the other side's."""
    return [
        float(reward.score(reward.model(torch.tensor([tokens], device=reward.device)).last_hidden_state[:, -1]))
        for tokens in conversations
    ]


def main(job: dict) -> dict:
    torch.set_num_threads(1)
    torch.backends.mkldnn.matmul.fp32_precision = "ieee" if job["matmul"] == "ieee" else "bf16"
    tokenizer = AutoTokenizer.from_pretrained(job["start"], padding_side="left")
    model, value, reward = policy(job), critic(job), scorer(job)
    settings = job["settings"]
    groups = [
        {"params": list(model.parameters()), "lr": settings["learning_rate"]},
        {"params": list(value.parameters()), "lr": settings["critic_learning_rate"]},
    ]
    optimizer = ClippedAdam(groups, settings["max_gradient_norm"])
    clock = Clock(job["device"])
    course = Course(model, job, clock)
    on_gpu = job["device"] == "cuda"
    if on_gpu:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        torch.backends.cuda.enable_cudnn_sdp(False)
    with tempfile.TemporaryDirectory() as folder:
        # One device batch is a whole step, so that each of its minibatches is an optimiser step.
        config = PPOConfig(
            output_dir=folder, use_cpu=not on_gpu, bf16=job["matmul"] == "autocast", gradient_checkpointing=False,
            report_to="none", seed=job["seed"], per_device_train_batch_size=settings["episodes_per_step"],
            gradient_accumulation_steps=1,
            num_mini_batches=settings["episodes_per_step"] // settings["episodes_per_minibatch"],
            total_episodes=len(job["prompts"]), num_ppo_epochs=settings["epochs"],
            local_rollout_forward_batch_size=job["rows"], num_sample_generations=0,
            response_length=settings["max_new_tokens"], stop_token="eos", temperature=settings["temperature"],
            missing_eos_penalty=settings["missing_end_penalty"], kl_coef=settings["kl_coefficient"],
            cliprange=settings["clip_range"], cliprange_value=settings["value_clip_range"], vf_coef=1.0,
            gamma=settings["discount"], lam=settings["gae_lambda"], dataloader_pin_memory=False,
            save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = PPOTrainer(
            args=config, processing_class=tokenizer, model=model, ref_model=policy(job), reward_model=reward,
            value_model=value, train_dataset=Dataset.from_list([{"input_ids": tokens} for tokens in job["prompts"]]),
            optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)), callbacks=[course],
        )  # fmt: skip
        clock.start()
        # By itself the trainer generates, scores and asks the reference in fp32.
        with torch.autocast(job["device"], torch.bfloat16, enabled=on_gpu, cache_enabled=False):
            trainer.train()
        spent = clock.read()
        if on_gpu:
            torch.backends.cuda.matmul.fp32_precision = "ieee"
    for out in course.folders:
        tokenizer.save_pretrained(out)
    return spent | {"folders": course.folders, "probe": probe(reward, job["probe"])}


if __name__ == "__main__":
    asked, answered = map(Path, sys.argv[1:])
    answered.write_text(json.dumps(main(json.loads(asked.read_text()))))
