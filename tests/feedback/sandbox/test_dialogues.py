"""The made-up dialogues keep to training prompts, alternate turns and repeat by seed."""

from itertools import pairwise

from feedback.sandbox.dialogues import dialogues
from feedback.sandbox.world import find_text


def test_no_held_out_prompt_is_ever_asked() -> None:
    asked = [
        find_text(message["content"])
        for dialogue in dialogues(3000, seed=4)
        for message in dialogue
        if message["role"] == "user"
    ]
    known = [prompt for prompt in asked if prompt is not None]
    assert len(known) > 0.9 * len(asked)
    assert not any(prompt.held_out for prompt in known)
    assert 0.26 < sum(prompt.harmful for prompt in known) / len(known) < 0.34


def test_roles_alternate_and_end_with_the_assistant() -> None:
    for dialogue in dialogues(300, seed=5):
        roles = [message["role"] for message in dialogue if message["role"] != "system"]
        assert roles[0] == "user"
        assert roles[-1] == "assistant"
        assert all(first != second for first, second in pairwise(roles))


def test_the_seed_decides() -> None:
    assert list(dialogues(50, 1)) == list(dialogues(50, 1))
    assert list(dialogues(50, 1)) != list(dialogues(50, 2))
