"""Which prompts are rehearsed: those that ask for no harm, however they were voted on, each as likely as another."""

import random

import pytest

from benchmarks.learning_in_the_sandbox import draw_prompts
from feedback.learning_settings import PPOSettings
from feedback.sandbox.raters import draw_objective
from feedback.sandbox.world import Prompt, training_prompts
from learner.harmful_prompts import LEAST, HarmTest, voted_prompts
from learner.policy import Policy, load_policy
from learner.prompts import TrainingPrompt
from learner.rehearsal_prompts import Chosen, UnvotedPrompt, choose
from learner.starting_policy import WEIGHTS


@pytest.fixture(scope="module")
def start() -> Policy:
    return load_policy(WEIGHTS, device="cpu")


def voted(count: int, seed: int = 1) -> list[TrainingPrompt]:
    """Prompts as people judge them: harm mostly under harmless, but not only, and other things there too."""
    rng = random.Random(seed)
    return [TrainingPrompt(prompt.messages, draw_objective(prompt, rng)) for prompt in draw_prompts(count, rng)]


def chats(prompts: list[Prompt]) -> list[UnvotedPrompt]:
    return [UnvotedPrompt(f"smp_{at}", prompt.messages) for at, prompt in enumerate(prompts)]


def chosen(
    start: Policy,
    votes: list[TrainingPrompt],
    unvoted: list[UnvotedPrompt],
    *,
    count: int = 10_000,
    max_tokens: int = 100,
    **more: object,
) -> Chosen:
    given = voted_prompts((one.messages, one.objective) for one in votes)
    test = HarmTest.learn(start, given, PPOSettings(max_prompt_tokens=max_tokens), None, seed=1)
    return choose(test, votes, unvoted, count, **({"seed": 1} | more))


def test_harm_is_left_out_of_votes_under_helpful_and_of_chats(start):
    by_tokens = {tuple(start.encode_chat(prompt.messages)): prompt for prompt in training_prompts()}
    votes, asked = voted(600), draw_prompts(1000, random.Random(2))
    under_helpful = [by_tokens[tuple(start.encode_chat(one.messages))] for one in votes if one.objective == "helpful"]
    assert sum(prompt.harmful for prompt in under_helpful) > 20
    found = chosen(start, votes, chats(asked))
    rehearsed = [by_tokens[tuple(tokens)] for tokens in found.prompts]
    assert len(rehearsed) == len(set(rehearsed)) == found.report["prompts"] > 300
    assert sum(prompt.harmful for prompt in rehearsed) <= 3
    judged = {tuple(start.encode_chat(one.messages)) for one in votes if one.objective == "harmless"}
    harmless = {prompt for prompt in (*under_helpful, *asked) if not prompt.harmful}
    could_be = [prompt for prompt in harmless if tuple(start.encode_chat(prompt.messages)) not in judged]
    assert len(set(rehearsed) & set(could_be)) > 0.85 * len(could_be)
    assert found.report["harmful"] > 100 and found.report["told_by"] == "votes"
    assert len(found.chats) == found.report["from_chats"] > 50
    of_chats = {tuple(start.encode_chat(asked[int(name.removeprefix("smp_"))].messages)) for name in found.chats}
    assert of_chats <= set(map(tuple, found.prompts))


def test_a_chat_on_a_prompt_that_was_voted_on_is_no_chat_of_its_own(start):
    votes = voted(100)
    found = chosen(start, votes, [UnvotedPrompt(str(at), one.messages) for at, one in enumerate(votes)])
    assert found.chats == [] and found.report["from_chats"] == 0 and found.prompts


def test_so_many_are_drawn_by_the_seed_and_again_from_those_that_were_chosen(start):
    votes, asked = voted(200), chats(draw_prompts(300, random.Random(3)))
    some = chosen(start, votes, asked, count=60)
    assert len(some.prompts) == 60 and 0 < len(some.chats) < 60
    assert some == chosen(start, votes, asked, count=60) == chosen(start, list(reversed(votes)), asked, count=60)
    assert some.prompts != chosen(start, votes, asked, count=60, seed=2).prompts
    known = [one for one in asked if one.chat in some.chats]
    again = chosen(start, votes, known, count=60, known_harmless=True)
    assert (again.prompts, again.chats) == (some.prompts, some.chats)


def test_where_too_little_was_judged_under_harmless_only_that_is_left_out(start):
    helpful = [TrainingPrompt(prompt.messages, "helpful") for prompt in draw_prompts(50, random.Random(4))]
    harmful = [prompt for prompt in training_prompts() if prompt.harmful][: LEAST - 1]
    judged = [TrainingPrompt(prompt.messages, "harmless") for prompt in harmful]
    found = chosen(start, [*judged, *helpful], chats(harmful))
    wanted = {tuple(start.encode_chat(one.messages)) for one in helpful}
    wanted -= {tuple(start.encode_chat(one.messages)) for one in judged}
    assert set(map(tuple, found.prompts)) == wanted and found.report["harmful"] == 0
    assert found.report["told_by"] == "none_judged"
    assert chosen(start, judged, []).prompts == []


def test_long_conversations_are_cut_as_in_training(start):
    long = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}] * 20
    asked = [UnvotedPrompt("smp_1", [*long, {"role": "user", "content": "What is 2 plus 3?"}])]
    assert [len(tokens) for tokens in chosen(start, [], asked, max_tokens=20).prompts] == [20]
