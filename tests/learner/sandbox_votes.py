"""Votes of simulated raters straight into the record, for tests that need a dataset and no server."""

import random

from feedback.ids import new_id
from feedback.sandbox import raters, world
from feedback.schema import Sample
from feedback.settings import Settings
from feedback.store import Store, samples, votes
from feedback.worker import count_all
from learner.policy import load_policy
from learner.sampler import TorchSampler


def cast_votes(store: Store, settings: Settings, count: int, seed: int = 0, *, both: bool = False) -> None:
    """Votes on `count` pairs that v0 wrote, counted: one on each, or with `both` one under each objective."""
    policy = load_policy(settings.policies_dir / "v0", "cpu")
    rng = random.Random(seed)
    people = raters.raters(20, seed)
    prompts = [rng.choice(world.training_prompts()) for _ in range(count)]
    encoded = [policy.encode_chat(prompt.messages) for prompt in prompts for _ in range(2)]
    drawn = TorchSampler(policy.model, policy.end_ids).sample(encoded, max_new_tokens=64, temperature=1.0, seed=seed)
    texts = [policy.decode(reply) for reply in drawn.replies()]

    def record(session: object) -> None:
        for index, prompt in enumerate(prompts):
            replies = (texts[2 * index], texts[2 * index + 1])
            pair = tuple(_sample(prompt.messages, text) for text in replies)
            comparison = samples.compare(pair, key_id="key_sim", tranche="base")
            samples.add(session, pair, [comparison])
            session.flush()
            rater = rng.choice(people)
            for objective in raters.draw_objectives(prompt, rng, both=both):
                said = raters.vote(prompt, replies, objective, rater, rng)
                judgement = votes.Judgement(said.objective, str(said.preferred), said.strength)
                votes.put(session, comparison.id, judgement, key_id="key_sim", sees_all=False, rater=said.rater)

    store.write(record)
    count_all(store)


def have_chats(store: Store, count: int, seed: int = 0) -> None:
    """`count` chats with v0 that nobody votes on."""
    rng = random.Random(f"chats {seed}")
    asked = [rng.choice(world.training_prompts()) for _ in range(count)]
    store.write(samples.add, [_sample(prompt.messages, "as it may be") for prompt in asked])


def _sample(messages: list[dict], text: str) -> Sample:
    return Sample(
        id=new_id("smp"), key_id="key_sim", user=None, request_id=None, messages=list(messages),
        prompt_digest=samples.prompt_digest(list(messages)), text=text, message={"role": "assistant", "content": text},
        token_ids=None, logprobs=None, sampling={}, seed=None, version_first=0, version_last=0, status="complete",
        finish_reason="stop", usage=None, created_at=1.0, finished_at=1.0,
    )  # fmt: skip
