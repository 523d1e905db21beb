"""The same training in one process or in several: `torchrun -m tests.learner.joint_training FOLDER WHAT...`.

Each WHAT is trained and its steps and weights are written to FOLDER by the first process: `{what}.json`, and
`{what}.safetensors` with the state after each step. A state `{what}.resume.safetensors` in FOLDER is gone on from.
"""

import copy
import json
import sys
from pathlib import Path

import torch

from feedback.learning_settings import LoRASettings, PolicyLoRASettings, PPOSettings, PreferenceSettings
from learner.comparisons import VotedComparison
from learner.gradient_checkpointing import checkpoint_layers
from learner.lora import copy_sharing_frozen, with_adapter
from learner.number_format import forward_passes
from learner.policy import Policy
from learner.ppo import train_ppo
from learner.preference_model import PreferenceShape, new_preference_model
from learner.preference_training import train_preference_model
from learner.processes import Processes, join, leave
from learner.prompts import TrainingPrompt
from learner.training_state import TrainingState
from tests.learner.conftest import END, random_llama, word_tokenizer

STEPS = 3
ERASED = "preference_erased"
"""Somebody is erased before the other process reads the votes."""
LORA = {"rank": 4, "alpha": 8.0}
PPO = PPOSettings(
    steps=STEPS,
    episodes_per_step=16,
    episodes_per_minibatch=8,
    # Pieces are of uneven size, and of other sizes in one process than in two.
    episodes_per_forward=3,
    max_new_tokens=8,
    learning_rate=1e-3,
    matmul_precision="full",
    reward_weights={"helpful": 1.0},
    rehearsal_weight=0.0,
)
PREFERENCE = PreferenceSettings(
    epochs=1, comparisons_per_batch=7, matmul_precision="full", ensemble_size=2, learning_rate=1e-3
)


def ppo(folder: Path, what: str, processes: Processes) -> None:
    start = random_llama().requires_grad_(False)
    model = copy.deepcopy(start).requires_grad_(True)
    settings = PPO
    if what == "ppo_lora":
        settings = PPO.model_copy(update={"lora": PolicyLoRASettings(**LORA)})
        model = with_adapter(copy_sharing_frozen(start), settings.lora, seed=1)
    if what == "ppo_checkpointed":
        checkpoint_layers(model)
    if what == "ppo_own_trunk":
        settings = PPO.model_copy(update={"critic": "preference_model"})
    if what == "ppo_shared_trunk":
        settings = PPO.model_copy(update={"critic": "policy"})
    if what == "ppo_rehearsed":
        settings = PPO.model_copy(update={"rehearsal_weight": 1.0, "rehearsal_replies": 16, "rehearsal_episodes": 8})
    scorer = new_preference_model(random_llama(seed=5), PreferenceShape(("helpful",), 1, 8), seed=1)
    prompts = [TrainingPrompt([{"role": "user", "content": f"w{number}"}], "helpful") for number in range(5, 13)]
    policy = Policy(model, word_tokenizer(), (END,))
    notes = Notes(folder, what, processes)
    with forward_passes("bf16" if what == "ppo_bf16" else "fp32", torch.device("cpu")):
        train_ppo(
            policy, start, scorer, prompts, settings,
            seed=1, processes=processes, on_step=notes.add, resume=notes.resume,
            rehearse_on=[policy.encode_chat(one.messages) for one in prompts],
        )  # fmt: skip
    notes.end(model)


def preference(folder: Path, what: str, processes: Processes) -> None:
    start = Policy(random_llama(), word_tokenizer(), (END,))
    settings = PREFERENCE
    if what == "preference_lora":
        settings = PREFERENCE.model_copy(update={"lora": LoRASettings(**LORA)})
    comparisons = [
        VotedComparison(
            [{"role": "user", "content": f"w{n % 9} " * (1 + n % 5)}],
            (f"w{n % 7} w3", "w2 w5 " * (1 + n % 3)),
            ("helpful", "harmless")[n % 2],
            0.9 if n % 3 else 0.2,
        )
        for n in range(7 * STEPS - 4)
    ]
    if what == ERASED and not processes.first:
        comparisons.pop()
    notes = Notes(folder, what, processes)
    model = train_preference_model(
        start, comparisons, settings, seed=3, processes=processes, on_step=notes.add, resume=notes.resume
    )
    notes.end(model)


class Notes:
    """What a run leaves behind."""

    def __init__(self, folder: Path, what: str, processes: Processes) -> None:
        self._folder, self._what, self._processes = folder, what, processes
        self._steps: list[dict[str, object]] = []
        resume = folder / f"{what}.resume.safetensors"
        self.resume = TrainingState.load(resume) if resume.exists() else None

    def add(self, done, state) -> None:
        self._steps.append(vars(done))
        taken = state()
        if self._processes.first:
            taken.save(self._folder / f"{self._what}.{done.step}.safetensors")

    def end(self, model) -> None:
        # The trained model is whole in every process.
        weights = {name: tensor.detach().flatten().tolist() for name, tensor in model.state_dict().items()}
        path = self._folder / f"{self._what}.{self._processes.rank}.json"
        path.write_text(json.dumps({"steps": self._steps, "weights": weights}))


def main() -> None:
    torch.set_num_threads(1)
    processes = join()
    folder, *whats = sys.argv[1:]
    for what in whats:
        (ppo if what.startswith("ppo") else preference)(Path(folder), what, processes)
    leave()


if __name__ == "__main__":
    main()
