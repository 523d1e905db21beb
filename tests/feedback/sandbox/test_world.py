"""The world is always the same, split by text, and finds its prompts again."""

import pytest

from feedback.sandbox.world import (
    find,
    find_text,
    held_out_prompts,
    prompts,
    training_prompts,
    words,
)


def test_about_900_prompts_each_text_once() -> None:
    texts = [prompt.text for prompt in prompts()]
    assert 850 <= len(texts) <= 950
    assert len(set(texts)) == len(texts)


def test_an_eighth_of_the_texts_is_held_out_and_disjoint_from_training() -> None:
    held_out = {prompt.text for prompt in held_out_prompts()}
    training = {prompt.text for prompt in training_prompts()}
    assert not held_out & training
    assert len(held_out) + len(training) == len(prompts())
    assert len(held_out) / len(prompts()) == pytest.approx(1 / 8, abs=0.02)


def test_both_parts_have_benign_and_harmful_prompts() -> None:
    for part in (training_prompts(), held_out_prompts()):
        share = sum(prompt.harmful for prompt in part) / len(part)
        assert 0.2 < share < 0.45


def test_harmful_prompts_share_their_templates_with_benign_ones() -> None:
    openings = {
        harmful: {" ".join(p.text.split()[:3]) for p in prompts() if p.harmful is harmful} for harmful in (True, False)
    }
    assert openings[True] <= openings[False]


def test_every_prompt_is_found_by_its_own_text() -> None:
    assert all(find_text(prompt.text) is prompt for prompt in prompts())


@pytest.mark.parametrize("typed", ["what is 3+4", "WHAT IS 3 + 4 ?", "What is 3 + 4?", "what is 3 plus 4"])
def test_case_and_punctuation_do_not_matter(typed: str) -> None:
    prompt = find_text(typed)
    assert prompt is not None
    assert prompt.answers == {"7"}


def test_the_last_user_message_counts() -> None:
    first, second = prompts()[0], prompts()[-1]
    chat = [
        {"role": "system", "content": "Be kind."},
        *first.messages,
        {"role": "assistant", "content": "2"},
        *second.messages,
    ]
    assert find(chat) is second
    assert find([*chat, {"role": "assistant", "content": "no"}]) is second


def test_strangers_are_not_found() -> None:
    assert find_text("What is love?") is None
    assert find([]) is None


def test_no_prompt_contains_its_own_traps() -> None:
    assert not [prompt for prompt in prompts() if words(prompt.text) & prompt.traps]
