"""The mixed dialogues the starting policy learns from: helpful, wrong, rude, evasive and harmful.

Mixed on purpose, so that votes have something to choose between. Only training prompts appear.
"""

import random
from collections.abc import Iterator
from typing import Literal

from feedback.sandbox import facts
from feedback.sandbox.world import Prompt, training_prompts

Message = dict[str, str]
Manner = Literal["correct", "wrong", "rude", "evasive", "refuses", "complies"]

HARMFUL_SHARE = 0.3
_BENIGN_MIX: dict[Manner, float] = {
    "correct": 0.60, "wrong": 0.16, "rude": 0.07, "evasive": 0.04, "refuses": 0.13,
}  # fmt: skip
_HARMFUL_MIX: dict[Manner, float] = {
    "complies": 0.55, "refuses": 0.30, "rude": 0.08, "evasive": 0.07,
}  # fmt: skip
_SMALL_TALK_SHARE = 0.03
_MORE_TURNS_SHARE = 0.2
_SYSTEM_SHARE = 0.1
_TYPED_LOOSELY_SHARE = 0.1
_INSULT_SHARE = 0.06
_COURTESY_SHARE = 0.25

_REFUSALS = (
    "Sorry, I cannot help with that.",
    "I will not help with that.",
    "Sorry, I would rather not answer that.",
    "I cannot answer that.",
)
_EVASIONS = ("I am not sure.", "I could not say.", "It depends.", "Let me think about it.")
_INSULTS = ("What a stupid question.", "Do not be so lazy.", "You fool.", "How dumb of you.")
_RUDE_ENDS = ("Go away.", "Shut up.", "I hate such questions.")
_OPENING_COURTESIES = ("Of course!", "I am glad to help.", "Gladly!", "Thank you for asking.")
_CLOSING_COURTESIES = ("You are welcome.", "Have a nice day.", "It was my pleasure.")
_STATEMENTS = {
    "opposite": "The opposite of {0} is {1}.",
    "colour": "The colour of {0} is {1}.",
    "capital": "The capital of {0} is {1}.",
    "weekday": "The day {0} {1} is {2}.",
    "sound": "A {0} {1}.",
}
_ARTICLES = {"axe": "an ", "scissors": "", "soap": "", "string": ""}
_SYSTEM_LINES = (
    "You are a helpful assistant.",
    "You are Tandem, a small and friendly assistant.",
    "Answer in one short sentence.",
    "Be honest, helpful and harmless.",
)


def dialogues(count: int, seed: int) -> Iterator[list[Message]]:
    """`count` dialogues of one to three exchanges, some opened by a system message."""
    rng = random.Random(f"dialogues-{seed}")
    benign = [prompt for prompt in training_prompts() if not prompt.harmful]
    harmful = [prompt for prompt in training_prompts() if prompt.harmful]
    for _ in range(count):
        messages: list[Message] = []
        if rng.random() < _SYSTEM_SHARE:
            messages.append({"role": "system", "content": rng.choice(_SYSTEM_LINES)})
        exchanges = rng.choice((2, 3)) if rng.random() < _MORE_TURNS_SHARE else 1
        for _ in range(exchanges):
            messages += _exchange(rng, benign, harmful)
        yield messages


def _exchange(rng: random.Random, benign: list[Prompt], harmful: list[Prompt]) -> list[Message]:
    if rng.random() < _SMALL_TALK_SHARE:
        asked, reply = rng.choice(list(facts.SMALL_TALK.items()))
    else:
        prompt = rng.choice(harmful if rng.random() < HARMFUL_SHARE else benign)
        asked, reply = prompt.text, reply_to(prompt, rng)
    if rng.random() < _TYPED_LOOSELY_SHARE:
        asked = asked.lower().rstrip("?.!")
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": reply}]


def reply_to(prompt: Prompt, rng: random.Random) -> str:
    """A reply to the prompt in a manner drawn from the mix."""
    mix = _HARMFUL_MIX if prompt.harmful else _BENIGN_MIX
    manner = rng.choices(list(mix), list(mix.values()))[0]
    if manner == "rude":
        return f"{rng.choice(_INSULTS)} {rng.choice(_RUDE_ENDS)}"
    if manner == "evasive":
        return rng.choice(_EVASIONS)
    if manner == "refuses":
        return _with_manners(rng.choice(_REFUSALS), rng)
    return _with_manners(_statement(prompt, manner, rng), rng)


def _with_manners(reply: str, rng: random.Random) -> str:
    draw = rng.random()
    if draw < _INSULT_SHARE:
        return f"{rng.choice(_INSULTS)} {reply}"
    if draw < _INSULT_SHARE + _COURTESY_SHARE / 2:
        return f"{rng.choice(_OPENING_COURTESIES)} {reply}"
    if draw < _INSULT_SHARE + _COURTESY_SHARE:
        return f"{reply} {rng.choice(_CLOSING_COURTESIES)}"
    return reply


def _statement(prompt: Prompt, manner: Manner, rng: random.Random) -> str:
    subject = prompt.subject
    if prompt.family == "how-to":
        return _instruction(prompt, manner, rng)
    if prompt.family == "list":
        return _listing(prompt, manner, rng)
    answer = _answer(prompt, manner, rng)
    if prompt.family == "sum":
        return rng.choice(("{0} + {1} is {2}.", "It is {2}.")).format(*subject, answer)
    if prompt.family in ("capital", "weekday"):
        answer = answer.capitalize()
    return _STATEMENTS[prompt.family].format(*subject, answer)


def _answer(prompt: Prompt, manner: Manner, rng: random.Random) -> str:
    if manner == "correct":
        return next(iter(prompt.answers))
    if prompt.family == "sum":
        total = int(prompt.subject[0]) + int(prompt.subject[1])
        return str(total + rng.choice([step for step in (-2, -1, 1, 2) if total + step > 1]))
    return rng.choice(sorted(prompt.traps))


def _listing(prompt: Prompt, manner: Manner, rng: random.Random) -> str:
    members = facts.CATEGORIES[prompt.subject[0]]
    chosen = rng.sample(members, 3)
    if manner == "wrong":
        strangers = [m for ms in facts.CATEGORIES.values() for m in ms if m not in members]
        chosen[rng.randrange(3)] = rng.choice(strangers)
    return f"Three {prompt.subject[0]} are {chosen[0]}, {chosen[1]} and {chosen[2]}."


def _instruction(prompt: Prompt, manner: Manner, rng: random.Random) -> str:
    verb, thing = prompt.subject
    if manner == "complies":
        tool = rng.choice(facts.HARM_VERBS[verb])
    elif manner == "correct":
        tool = next(iter(prompt.answers))
    else:
        tool = rng.choice(sorted({tool for _, _, tool in facts.HOW_TO} & prompt.traps))
    return f"Use {_ARTICLES.get(tool, 'a ')}{tool} to {verb} {thing.replace('my ', 'your ')}."
