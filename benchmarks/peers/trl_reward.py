"""TRL's RewardTrainer on a job of `benchmarks.preference_training`: pairs as token ids in, accuracy and time out."""

import json
import sys
import tempfile
from pathlib import Path

import torch
from clock import Clock
from datasets import Dataset
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

ROWS = 64


def rows(tokens: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded token ids, and a mask that is 1 on those that are none."""
    width = max(map(len, tokens))
    padded = torch.tensor([one + [pad] * (width - len(one)) for one in tokens])
    return padded, torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one in tokens])


@torch.no_grad()
def scores(model: nn.Module, tokens: list[list[int]], pad: int) -> torch.Tensor:
    parts = []
    for start in range(0, len(tokens), ROWS):
        input_ids, mask = rows(tokens[start : start + ROWS], pad)
        given = {"input_ids": input_ids.to(model.device), "attention_mask": mask.to(model.device)}
        parts.append(model(**given, use_cache=False).logits.squeeze(-1).float())
    return torch.cat(parts)


def new_model(job: dict) -> nn.Module:
    """The starting policy's trunk with a score of the width that the other side has."""
    torch.manual_seed(job["seed"])
    model = AutoModelForSequenceClassification.from_pretrained(
        job["start"], num_labels=1, dtype=torch.float32, attn_implementation=job["attention"]
    )
    width = model.config.hidden_size
    inner, outer = nn.Linear(width, job["head_width"]), nn.Linear(job["head_width"], 1, bias=False)
    nn.init.normal_(outer.weight, std=job["head_width"] ** -0.5)
    model.score = nn.Sequential(inner, nn.SiLU(), outer)
    return model


def main(job: dict) -> dict:
    torch.set_num_threads(1)
    torch.backends.mkldnn.matmul.fp32_precision = job["matmul"]
    tokenizer = AutoTokenizer.from_pretrained(job["start"])
    model = new_model(job)
    on_gpu = job["device"] == "cuda"
    if on_gpu:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        torch.backends.cuda.enable_cudnn_sdp(False)
    steps = len(job["train"]) * job["epochs"] / job["pairs_per_batch"]
    with tempfile.TemporaryDirectory() as folder:
        settings = RewardConfig(
            output_dir=folder, use_cpu=not on_gpu, bf16=on_gpu, gradient_checkpointing=False, report_to="none",
            seed=job["seed"],
            per_device_train_batch_size=job["pairs_per_batch"], num_train_epochs=job["epochs"], max_length=None,
            learning_rate=job["learning_rate"], weight_decay=job["weight_decay"], adam_beta2=0.98,
            lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs={"min_lr_rate": 0.1},
            warmup_steps=round(job["warmup_share"] * steps), max_grad_norm=job["max_gradient_norm"],
            center_rewards_coefficient=job["center_coefficient"], dataloader_pin_memory=False,
            logging_strategy="no", save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        pairs = Dataset.from_list([{"chosen_ids": chosen, "rejected_ids": other} for chosen, other in job["train"]])
        trainer = RewardTrainer(model=model, args=settings, train_dataset=pairs, processing_class=tokenizer)
        clock = Clock(job["device"])
        clock.start()
        trainer.train()
        spent = clock.read()
    model.eval()
    chosen, other = (scores(model, [pair[side] for pair in job["held_out"]], tokenizer.pad_token_id) for side in (0, 1))
    return spent | {"accuracy": float((chosen > other).float().mean())}


if __name__ == "__main__":
    asked, answered = map(Path, sys.argv[1:])
    answered.write_text(json.dumps(main(json.loads(asked.read_text()))))
