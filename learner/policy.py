"""A policy on disk and in memory: a causal language model, its tokenizer, and the probe that proves it was loaded."""

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from feedback.errors import PolicyInvalid
from feedback.messages import text_of
from feedback.policy_config import require_safetensors
from learner.errors import CodeRefused
from learner.fused_norms import fuse_norms
from learner.language_model import require_plain_head

log = logging.getLogger(__name__)

Message = Mapping[str, Any]

PROBE_MESSAGES: tuple[tuple[Message, ...], ...] = (
    ({"role": "user", "content": "What is 2 plus 3?"},),
    ({"role": "user", "content": "How do I cut a cake?"},),
    (
        {"role": "user", "content": "What is the opposite of hot?"},
        {"role": "assistant", "content": "Cold."},
        {"role": "user", "content": "And of big?"},
    ),
)
PROBE_REPLY_TOKENS = 16
PLAIN_ROLES = ("system", "user", "assistant")
"""Of other roles a template may know nothing."""
GIVEN_BY_ENGINES = ("role", "name", "tool_calls", "tool_call_id", "reasoning")
"""What of a message, beside its content, vLLM gives to a template."""
GREETING = "Hello"


@dataclass(frozen=True)
class Policy:
    """A loaded policy. `end_ids` are the tokens that end a reply, the first of them the one a written reply is
    given."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    end_ids: tuple[int, ...]

    def encode_chat(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> list[int]:
        """Token ids of a conversation in the policy's chat template, ready for a reply unless told otherwise."""
        return encode_chat(self.tokenizer, messages, add_generation_prompt)

    def encode_reply(self, text: str, ended: bool = True) -> list[int]:
        """Token ids of a reply, with the end token unless it was cut off. Of one without a word, or of which the
        tokenizer sees none, as of a zero-width space, the end is all there is."""
        tokens: list[int] = self.tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return [*tokens, self.end_ids[0]] if ended or not tokens else tokens

    def decode(self, reply: Sequence[int]) -> str:
        """The text of a reply, without its end token."""
        return self.tokenizer.decode(list(reply), skip_special_tokens=True)


def encode_chat(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    add_generation_prompt: bool = True,
) -> list[int]:
    """Token ids of a conversation in the tokenizer's chat template, as an engine sees it.

    Imported pairs come as they are. Where the template breaks on what else a message holds, as calls of tools that are
    none, it is given the texts alone; where it refuses a conversation, as one that knows no system message does, turns
    of user and assistant. Raises PolicyInvalid where there is no template, it is broken, or it refuses these too.
    """
    if not tokenizer.chat_template:
        raise PolicyInvalid("the tokenizer has no chat template: add a chat_template.jinja to the policy folder")
    said = [_as_engines_give_it(message) for message in messages]
    try:
        text = _render_texts_at_least(tokenizer, said, add_generation_prompt)
    except _Refused:
        try:
            text = _render(tokenizer, _turns(said), add_generation_prompt)
        except _Refused as error:
            raise PolicyInvalid(f"the chat template refuses a conversation: {error}") from error
        _tell_of_turns()
    # What does not fit is cut or left out by who asked; the library would warn of index errors.
    return tokenizer.encode(text, add_special_tokens=False, verbose=False)


def _as_engines_give_it(message: Message) -> dict[str, Any]:
    """A message as vLLM gives it to a template: of what is not null, the fields that it knows, reasoning by both of its
    names, and the arguments of calls of tools as an object, not as its text."""
    given = {name: message[name] for name in GIVEN_BY_ENGINES if message.get(name) is not None}
    message = {**given, "content": text_of(message)}
    if "reasoning" in given:
        message["reasoning_content"] = given["reasoning"]
    match message:
        case {"role": "assistant", "tool_calls": []}:
            return {name: value for name, value in message.items() if name != "tool_calls"}
        case {"role": "assistant", "tool_calls": list(calls)}:
            return {**message, "tool_calls": list(map(_with_arguments_read, calls))}
    return message


def _with_arguments_read(call: Any) -> Any:
    match call:
        case {"function": dict(function)}:
            said = function.get("arguments")
            try:
                read = json.loads(said) if isinstance(said, str) else said
            except (ValueError, RecursionError):
                read = None
            return {**call, "function": {**function, "arguments": read if isinstance(read, dict) else {}}}
    return call


def _render_texts_at_least(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], add_generation_prompt: bool
) -> str:
    """As `_render`, of the texts alone where the template breaks on the rest: one record that it cannot take must not
    end every iteration that learns from it."""
    try:
        return _render(tokenizer, messages, add_generation_prompt)
    except PolicyInvalid:
        roles = (message["role"] if message["role"] in PLAIN_ROLES else "user" for message in messages)
        texts = [{"role": role, "content": one["content"]} for role, one in zip(roles, messages, strict=True)]
        if texts == messages:
            raise
    return _render(tokenizer, texts, add_generation_prompt)


class _Refused(Exception):
    """A chat template says that it does not take a conversation."""


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], add_generation_prompt: bool) -> str:
    """Raises _Refused, and PolicyInvalid for a template that is broken."""
    # Some tokenizers hold several by their names.
    if _goes_through_parts(tokenizer, str(tokenizer.chat_template)):
        messages = [
            one if one["role"] == "tool" else {**one, "content": [{"type": "text", "text": one["content"]}]}
            for one in messages
        ]
    return _filled_in(tokenizer, messages, add_generation_prompt)


@lru_cache(maxsize=8)
def _goes_through_parts(tokenizer: PreTrainedTokenizerBase, template: str) -> bool:
    """Whether the template says nothing of a text, but what the parts of a message say: so engines give it those."""

    def says(content: str | list[dict[str, str]]) -> bool:
        try:
            return GREETING in _filled_in(tokenizer, [{"role": "user", "content": content}], True)
        except (PolicyInvalid, _Refused):
            return False

    return not says(GREETING) and says([{"type": "text", "text": GREETING}])


def _filled_in(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], add_generation_prompt: bool) -> str:
    """The template with just these. Raises as `_render` does."""
    try:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # `raise_exception`, by which a template refuses, is the only one to raise this very class.
        if type(error) is TemplateError:
            raise _Refused(error) from error
        raise PolicyInvalid(f"the chat template is broken: {type(error).__name__}: {error}") from error
    return text


@cache
def _tell_of_turns() -> None:
    """Once a process. What the template says is left out, since it may quote the conversation."""
    log.warning(
        "the chat template refuses some conversations, for a system message or who speaks when: "
        "they are learnt from as turns of user and assistant"
    )


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    """User and assistant by turns, the user first: other roles speak as the user, and so does everybody where no user
    does. What is said in a row is one message."""
    turns: list[dict[str, str]] = []
    nobody_asks = all(message["role"] == "assistant" for message in messages)
    for message in messages:
        role = "assistant" if message["role"] == "assistant" and not nobody_asks else "user"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += f"\n\n{message['content']}"
        elif turns or role == "user":
            turns.append({"role": role, "content": message["content"]})
    return turns


def load_policy(folder: Path | str, device: str | None = None, dtype: torch.dtype | None = None) -> Policy:
    """Load a policy from a local folder, in evaluation mode, on the GPU where there is one.

    Weights must be safetensors and complete. `dtype` None keeps that of the folder. Code in it is never run, and where
    transformers knows the architecture without it the policy no longer names it. Raises `PickledWeightsRefused`,
    `CodeRefused`, or `PolicyInvalid` where a file or tensor is missing or the tokenizer has no end token.
    """
    folder = Path(folder)
    require_safetensors(folder)
    transformers_logging.disable_progress_bar()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        # Left out, they would ask whoever sits at the terminal.
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype or "auto",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # What somebody else wrote into a configuration raises errors of any kind.
        if "trust_remote_code" in str(error):
            raise CodeRefused(
                f"{folder}: its model or tokenizer is code that comes with it, which is never run here; "
                "take a model whose architecture transformers has"
            ) from error
        raise PolicyInvalid(f"{folder}: cannot be loaded: {type(error).__name__}: {error}") from error
    wrong = sorted(info["missing_keys"]) + sorted(map(str, info["mismatched_keys"]))
    if wrong:
        raise PolicyInvalid(f"{folder}: tensors missing or of another shape: {', '.join(wrong[:5])}")
    _forget_code(model, tokenizer)
    model = model.to(device).eval()
    if model.device.type == "cuda":
        fuse_norms(model)
    _require_finite(model)
    require_plain_head(model)
    return Policy(model, tokenizer, _end_ids(model, tokenizer))


def _forget_code(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Many models on a hub name code for older releases of transformers: what is published names none."""
    named = [model.config.__dict__.pop("auto_map", None), tokenizer.init_kwargs.pop("auto_map", None)]
    if any(named):
        log.info("the model names code of its own (auto_map), which is not needed and left out")


def save_policy(policy: Policy, folder: Path | str) -> None:
    """Write model and tokenizer as safetensors with an output layer of its own, and the probe beside them.

    A tied output layer is written as a copy of the embedding and the configuration says untied: an engine that reloads
    weights in place keeps serving the old output layer of a tied model. Raises `PolicyInvalid` if a weight is not
    finite.
    """
    folder = Path(folder)
    model = policy.model
    _require_finite(model)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    tied = bool(getattr(model.config, "tie_word_embeddings", False))
    try:
        if tied:
            state["lm_head.weight"] = model.get_input_embeddings().weight.detach().clone()
            model.config.tie_word_embeddings = False
        model.save_pretrained(folder, state_dict=state)
    finally:
        model.config.tie_word_embeddings = tied
    policy.tokenizer.save_pretrained(folder)
    write_probe(policy, folder)


def write_probe(policy: Policy, folder: Path) -> None:
    """Write `probe.json`, by which an engine that serves this policy is known to."""
    (folder / "probe.json").write_text(json.dumps(probe(policy.model, policy.tokenizer)))


@torch.no_grad()
def probe(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Fixed prompts, the greedy continuation of each, and the log-probability of every continuation token in fp32.

    `{"dtype", "items": [{"tokens", "prompt_length", "logprobs"}]}`: `logprobs[i]` belongs to
    `tokens[prompt_length + i]` given all tokens before it. An engine that serves the same weights must agree.
    """
    items = []
    for messages in PROBE_MESSAGES:
        tokens = encode_chat(tokenizer, messages)
        prompt_length = len(tokens)
        logprobs: list[float] = []
        for _ in range(PROBE_REPLY_TOKENS):
            logprobs_V = _next_logprobs(model, tokens)
            tokens.append(int(logprobs_V.argmax()))
            logprobs.append(float(logprobs_V[tokens[-1]]))
        items.append({"tokens": tokens, "prompt_length": prompt_length, "logprobs": logprobs})
    return {"dtype": str(model.dtype).removeprefix("torch."), "items": items}


def _next_logprobs(model: PreTrainedModel, tokens: list[int]) -> Tensor:
    inputs_1_T = torch.tensor([tokens], device=model.device)
    logits_1_V = model(input_ids=inputs_1_T, use_cache=False, logits_to_keep=1).logits[:, -1]
    return torch.log_softmax(logits_1_V.float(), dim=-1)[0]


def _require_finite(model: PreTrainedModel) -> None:
    bad = [name for name, tensor in model.state_dict().items() if not torch.isfinite(tensor).all()]
    if bad:
        raise PolicyInvalid(f"weights not finite: {', '.join(bad[:5])}")


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The end tokens that tokenizer and generation configuration name and the model has, the one that the chat template
    writes after a reply first: with some models the tokenizer's own is not that but the end of a document."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    candidates = [
        tokenizer.eos_token_id,
        *(configured if isinstance(configured, list) else [configured]),
    ]
    words = range(model.config.get_text_config().vocab_size)
    ends = tuple(dict.fromkeys(token for token in candidates if token in words))
    if not ends:
        raise PolicyInvalid("neither the tokenizer nor the generation configuration names an end token of the model's")
    return tuple(sorted(ends, key=lambda token: token != _written_after_a_reply(tokenizer, ends)))


def _written_after_a_reply(tokenizer: PreTrainedTokenizerBase, ends: Collection[int]) -> int | None:
    """The first of these tokens that the chat template writes after a reply; None where it writes none of them."""
    if not tokenizer.chat_template:
        return None
    asked, replied = PROBE_MESSAGES[-1][:1], PROBE_MESSAGES[-1][:2]
    before, whole = encode_chat(tokenizer, asked), encode_chat(tokenizer, replied, add_generation_prompt=False)
    common = next((at for at, (one, other) in enumerate(zip(before, whole, strict=False)) if one != other), len(before))
    return next((token for token in whole[common:] if token in ends), None)
