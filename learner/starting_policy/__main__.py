"""`python -m learner.starting_policy`: train the built-in policy from scratch and write it out."""

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from transformers import GenerationConfig

from feedback.sandbox.dialogues import dialogues
from learner.starting_policy import WEIGHTS
from learner.starting_policy.digests import write_digests
from learner.starting_policy.tokenizer import train_tokenizer
from learner.starting_policy.train import encode, new_model, train

DIALOGUES = 50_000
EPOCHS = 1
BATCH_SIZE = 64
PEAK_LR = 4e-3


def main() -> None:
    """Parse the arguments, train with a progress bar, write the folder."""
    parser = argparse.ArgumentParser(prog="python -m learner.starting_policy", description=__doc__)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dialogues", type=int, default=DIALOGUES, help="how many to train on")
    arguments = parser.parse_args()
    build(arguments.out, arguments.seed, arguments.dialogues)
    Console().print(f"The starting policy is in {arguments.out}")


def build(out: Path, seed: int, dialogue_count: int) -> None:
    """Train tokenizer and model on made-up dialogues and write both with their digests."""
    torch.set_num_threads(1)  # at this size a second thread costs more than it brings
    torch.manual_seed(seed)
    made_up = list(dialogues(dialogue_count, seed))
    tokenizer = train_tokenizer(message["content"] for dialogue in made_up for message in dialogue)
    model = new_model(tokenizer)
    columns = (
        *Progress.get_default_columns(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task("Training the starting policy", total=None, loss="")
        train(
            model,
            tokenizer,
            encode(tokenizer, made_up),
            epochs=EPOCHS,
            batch_size=BATCH_SIZE,
            peak_lr=PEAK_LR,
            seed=seed,
            on_step=lambda done, total, loss: progress.update(
                bar, completed=done, total=total, loss=f"loss {loss:.3f}"
            ),
        )
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out, save_jinja_files=False)
    write_digests(out)


if __name__ == "__main__":
    main()
