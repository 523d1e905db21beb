"""The starting policy's tokenizer: a byte-level BPE of 1,024 pieces with a chat template."""

from collections.abc import Iterable
from typing import Final

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PIECES: Final = 1024
MAX_TOKENS: Final = 512

PAD: Final = "<|pad|>"
BEGIN: Final = "<|begin|>"
END: Final = "<|end|>"
USER: Final = "<|user|>"
ASSISTANT: Final = "<|assistant|>"
SPECIAL: Final = (PAD, BEGIN, END, USER, ASSISTANT)  # ids 0..4

# A system message is plain text before the first turn. "<|" in what people write is opened up, so
# that nobody can forge a turn by typing its opening.
CHAT_TEMPLATE: Final = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- set text = message['content'] | replace('<|', '< |') | trim -%}
{%- if message['role'] == 'assistant' -%}
{{- '<|assistant|>' + text + eos_token -}}
{%- elif message['role'] == 'user' -%}
{{- '<|user|>' + text -}}
{%- else -%}
{{- text -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""

_SPLIT: Final = r"\d| ?[A-Za-z]+| ?[^\sA-Za-z\d]+|\s"


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer learnt from `texts`, digits apart, in which encoding adds no special token.

    The chat template writes every special token itself, so that a rendered chat encodes to the same
    ids whoever encodes it.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_TOKENS,
    )
