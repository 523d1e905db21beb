"""Tasks with known answers: the built-in suite for the built-in policy, and tasks from local files.

A file is JSON Lines, one question a line, and a task by its name:

    {"prompt": "What is the capital of France?", "answers": ["Paris"]}
    {"prompt": "Which is a fruit?", "choices": ["a stone", "a pear"], "answer": 1}
    {"messages": [{"role": "user", "content": "..."}], "answers": ["four", "4"], "traps": ["five"]}

A reply to one with `answers` is right when it holds one of them, as whole words, and none of the `traps`; to one with
`choices`, when the first letter that stands by itself is that of the answer.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from feedback.errors import InvalidRequest
from feedback.sandbox.world import Prompt, prompts

WORD = re.compile(r"\w+")
LETTERS = "ABCDEFGHIJ"
ITEMS_PER_FAMILY = 60


@dataclass(frozen=True)
class Item:
    """One question: right is a reply with `needed` of the `answers` and none of the `traps`, or the right `letter`."""

    messages: tuple[dict[str, str], ...]
    answers: tuple[str, ...] = ()
    traps: tuple[str, ...] = ()
    needed: int = 1
    letter: str | None = None

    def right(self, reply: str) -> bool:
        if self.letter is not None:
            named = re.search(rf"\b([{LETTERS}])\b", reply)
            return named is not None and named[1] == self.letter
        said = _words(reply)
        found = sum(_words(answer) in said for answer in self.answers)
        return found >= self.needed and not any(_words(trap) in said for trap in self.traps)


@dataclass(frozen=True)
class Task:
    """A name and its questions."""

    name: str
    items: tuple[Item, ...]


def builtin_suite() -> list[Task]:
    """The harmless questions of the built-in world, one task a family, at most 60 questions each, evenly spaced."""
    families: dict[str, list[Prompt]] = {}
    for prompt in prompts():
        if not prompt.harmful:
            families.setdefault(prompt.family, []).append(prompt)
    return [Task(family, tuple(map(_item, _spaced(asked)))) for family, asked in families.items()]


def read_task(path: Path) -> Task:
    """A task from a local file. Raises InvalidRequest, naming the line that cannot be used."""
    items: list[Item] = []
    asked: dict[bytes, int] = {}
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    item = _parse(line, where := f"{path}, line {number}")
                    first = asked.setdefault(orjson.dumps(item.messages), number)
                    if first != number:
                        # Asked twice it says no more, and the interval would be as if it did.
                        raise InvalidRequest(f"{where}: line {first} asks the same")
                    items.append(item)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    if not items:
        raise InvalidRequest(f"{path} holds no question")
    return Task(path.stem, tuple(items))


class Line(BaseModel):
    """A line of a task's file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str | None = Field(None, min_length=1)
    messages: list[dict[str, str]] | None = Field(None, min_length=1)
    answers: list[str] = []
    traps: list[str] = []
    needed: int = Field(1, ge=1)
    choices: list[str] | None = Field(None, min_length=2, max_length=len(LETTERS))
    answer: int | None = Field(None, ge=0)

    def item(self) -> Item:
        """Raises ValueError where the fields do not make a question."""
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either 'prompt' or 'messages'")
        messages = self.messages or [{"role": "user", "content": self.prompt or ""}]
        if not all({"role", "content"} <= message.keys() for message in messages):
            raise ValueError("each of the 'messages' needs a 'role' and a 'content'")
        if self.choices is not None:
            if self.answer is None or self.answer >= len(self.choices):
                raise ValueError("'answer' must be the number of one of the 'choices', counted from 0")
            return Item(_with_choices(messages, self.choices), letter=LETTERS[self.answer])
        if len(self.answers) < self.needed or not all(_words(one).strip() for one in (*self.answers, *self.traps)):
            raise ValueError("give 'answers' (words, as many as are 'needed'), or 'choices' and 'answer'")
        return Item(tuple(messages), tuple(self.answers), tuple(self.traps), self.needed)


def _parse(line: bytes, where: str) -> Item:
    try:
        return Line.model_validate(orjson.loads(line)).item()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        said = f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}"
        raise InvalidRequest(f"{where}: {said}") from error
    except ValueError as error:
        raise InvalidRequest(f"{where}: {error}") from error


def _with_choices(messages: Sequence[dict[str, str]], choices: Sequence[str]) -> tuple[dict[str, str], ...]:
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    *before, last = messages
    asked = f"{last['content']}\n{listed}\nAnswer with the letter alone."
    return (*before, {**last, "content": asked})


def _item(prompt: Prompt) -> Item:
    return Item(tuple(prompt.messages), tuple(sorted(prompt.answers)), tuple(sorted(prompt.traps)), prompt.needed)


def _spaced(asked: list[Prompt]) -> list[Prompt]:
    count = min(len(asked), ITEMS_PER_FAMILY)
    return [asked[at * len(asked) // count] for at in range(count)]


def _words(text: str) -> str:
    """The words of a text with a blank around each, so that one text holds another only by whole words."""
    return f" {' '.join(WORD.findall(text.lower()))} "


def as_json(items: Sequence[Item]) -> list[dict[str, Any]]:
    """For a digest of what was asked."""
    return [
        {
            "messages": list(item.messages),
            "answers": list(item.answers),
            "traps": list(item.traps),
            "needed": item.needed,
            "letter": item.letter,
        }
        for item in items
    ]
