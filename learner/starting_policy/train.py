"""Training the starting policy: plain next-token prediction on the replies of made-up dialogues."""

import math
import random
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from feedback.sandbox.dialogues import Message
from learner.starting_policy.tokenizer import ASSISTANT, MAX_TOKENS

IGNORED = -100
_POOL_BATCHES = 32


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained Llama of about 0.6M parameters that vLLM can serve (head_dim 32, untied)."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=MAX_TOKENS,
        tie_word_embeddings=False,  # a tied head is left stale when vLLM reloads weights
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


def encode(tokenizer: PreTrainedTokenizerFast, dialogues: Sequence[list[Message]]) -> list[list[int]]:
    """Each dialogue as token ids, rendered by the chat template."""
    texts = [tokenizer.apply_chat_template(dialogue, tokenize=False) for dialogue in dialogues]
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


def reply_labels(ids: Sequence[int], assistant_id: int, end_id: int) -> list[int]:
    """The ids with all but the replies, ends included, replaced by IGNORED."""
    labels, in_reply = [], False
    for token in ids:
        labels.append(token if in_reply else IGNORED)
        in_reply = token != end_id and (in_reply or token == assistant_id)
    return labels


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    sequences: Sequence[list[int]],
    *,
    epochs: int,
    batch_size: int,
    peak_lr: float,
    seed: int,
    on_step: Callable[[int, int, float], None],
) -> None:
    """Train in place by AdamW under a warm-up and cosine schedule.

    `on_step(done, total, loss)` is told after every step; the loss is in nats a token.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_lr, betas=(0.9, 0.98), weight_decay=0.01)
    rng = random.Random(f"batches-{seed}")
    steps = epochs * math.ceil(len(sequences) / batch_size)
    done = 0
    model.train()
    for _ in range(epochs):
        for rows in _batches(sequences, batch_size, rng):
            for group in optimizer.param_groups:
                group["lr"] = peak_lr * _schedule(done, steps)
            loss = _loss(model, tokenizer, rows)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            done += 1
            on_step(done, steps, loss.item())
    model.eval()


def _schedule(done: int, steps: int) -> float:
    warm_up = max(1, steps // 20)
    if done < warm_up:
        return (done + 1) / warm_up
    progress = (done - warm_up) / max(1, steps - warm_up)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))


def _batches(sequences: Sequence[list[int]], batch_size: int, rng: random.Random) -> Iterator[list[list[int]]]:
    """Shuffled batches of like lengths, so that little of a batch is padding."""
    order = rng.sample(sequences, len(sequences))
    pool_size = batch_size * _POOL_BATCHES
    for start in range(0, len(order), pool_size):
        pool = sorted(order[start : start + pool_size], key=len)
        batches = [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
        rng.shuffle(batches)
        yield from batches


def _loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: list[list[int]]) -> Tensor:
    """Mean cross-entropy over reply tokens; the head runs at no other position."""
    assistant_id = tokenizer.convert_tokens_to_ids(ASSISTANT)
    tokens_B_T = _padded(rows, tokenizer.pad_token_id)
    labels = [reply_labels(row, assistant_id, tokenizer.eos_token_id) for row in rows]
    labels_B_T = _padded(labels, IGNORED)[:, 1:]
    # Padding is on the right and attention causal, so no mask is needed.
    hidden_B_T_H = model.model(input_ids=tokens_B_T[:, :-1], use_cache=False).last_hidden_state
    counted_B_T = labels_B_T != IGNORED
    return functional.cross_entropy(model.lm_head(hidden_B_T_H[counted_B_T]), labels_B_T[counted_B_T])


def _padded(rows: Sequence[list[int]], value: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])
