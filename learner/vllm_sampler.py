"""Replies by a vLLM engine in the learner's own process, which is given the trained weights before each step.

Worth it from some ten million parameters on, and where replies are of very different lengths. The engine reads a
published folder once, for the model's shape; after that weights go from one memory to the other. It knows nothing of
preference models or PPO; whether its probabilities are the trainer's, PPO measures at each step.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from feedback import seeded_prompts
from feedback.errors import PolicyInvalid
from feedback.learning_settings import PPOSettings
from learner.lora import merged_weights
from learner.sampler import Samples

# From so many parameters on an engine is worth its start and its memory; see docs/sizes.md for what was measured.
WORTH_IT = {"cpu": 10_000_000, "cuda": 100_000_000}


def worth_it(model: PreTrainedModel) -> bool:
    """Whether rollouts of `model` are quicker by vLLM than by PyTorch, start and weight updates included."""
    return sum(parameter.numel() for parameter in model.parameters()) >= WORTH_IT.get(model.device.type, 0)


class VLLMSampler:
    """See `learner.sampler.Sampler`. `folder` is a published policy of the same shape as `model`.

    The same seed gives the same replies on the same machine; they are others than those of `TorchSampler`.
    """

    def __init__(
        self, model: PreTrainedModel, end_ids: tuple[int, ...], folder: Path, settings: PPOSettings, threads: int = 1
    ) -> None:
        self._model = model
        self._end_ids = end_ids
        self._engine = _start(model, folder, settings, threads)

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        first_row: int = 0,
    ) -> Samples:
        """See `Sampler`. The engine is given the model's weights as they are now."""
        from vllm import SamplingParams, TokensPrompt

        self._give_weights()
        wanted = [
            SamplingParams(
                temperature=temperature,
                max_tokens=max_new_tokens,
                seed=_seed_of(seed, first_row + row) if temperature else None,
                logprobs=0,
                stop_token_ids=list(self._end_ids),
                ignore_eos=True,
                detokenize=False,
            )
            for row in range(len(prompts))
        ]
        asked = [TokensPrompt(prompt_token_ids=list(prompt)) for prompt in prompts]
        written = [answer.outputs[0] for answer in self._engine.generate(asked, wanted, use_tqdm=False)]
        replies = [list(one.token_ids) for one in written]
        logprobs = [
            [place[token].logprob for token, place in zip(one.token_ids, one.logprobs, strict=True)] for one in written
        ]
        return Samples.pad(prompts, replies, logprobs, self._end_ids, self._model.device)

    def _give_weights(self) -> None:
        # The engine's output layer is untied, as in every published folder; a tied one is named twice here.
        weights = merged_weights(self._model)
        self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        # What was computed with the old weights must not be continued.
        if not self._engine.reset_prefix_cache():
            raise PolicyInvalid("the rollout engine did not forget what it computed with old weights")


def _seed_of(seed: int, row: int) -> int:
    """Neighbouring steps have neighbouring seeds, so that a sum would give rows of both the same one."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {row}".encode(), digest_size=7).digest())


def _start(model: PreTrainedModel, folder: Path, settings: PPOSettings, threads: int) -> Any:
    os.environ.update(
        {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_DO_NOT_TRACK": "1",
            "VLLM_LOGGING_LEVEL": "ERROR",
        }
    )
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("VLLM_HOST_IP", "127.0.0.1")
    on_cpu = model.device.type == "cpu"
    memory: dict[str, Any] = (
        {"kv_cache_memory_bytes": settings.rollout_cache_bytes}
        if on_cpu
        else {"gpu_memory_utilization": settings.rollout_memory_share}
    )
    # vLLM seeds the global generator anew; whoever draws from it must not notice.
    with torch.random.fork_rng():
        if on_cpu:
            # Compiling what ranks log-probabilities takes 15 s and makes nothing quicker here.
            from torch import _dynamo

            _dynamo.config.disable = True
        from vllm import LLM
        from vllm.v1.worker.gpu_model_runner import GPUModelRunner

        if on_cpu:
            seeded_prompts.mend(GPUModelRunner)
        return LLM(
            str(folder),
            dtype="float32" if on_cpu else "auto",
            max_model_len=settings.max_prompt_tokens + settings.max_new_tokens,
            max_num_seqs=min(256, settings.episodes_per_step),
            distributed_executor_backend="uni",
            enforce_eager=on_cpu,
            load_format="safetensors",
            generation_config="vllm",
            skip_tokenizer_init=True,
            # Log-probabilities at the sampling temperature, as the loss has them.
            logprobs_mode="processed_logprobs",
            disable_log_stats=True,
            **memory,
        )
