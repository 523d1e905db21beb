"""The built-in policy: a tiny Llama trained from scratch on the sandbox's mixed dialogues."""

from pathlib import Path
from typing import Final

WEIGHTS: Final = Path(__file__).parent / "weights"
"""The folder with the shipped weights, tokenizer and digests."""
