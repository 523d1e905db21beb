"""Simulated people at work on a running Tandem: they chat, vote and compare versions.

They know what any client knows, and reach the server through its public API alone.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from feedback.sandbox import raters as crew
from feedback.sandbox.dialogues import HARMFUL_SHARE
from feedback.sandbox.judge import OBJECTIVES, judge, utility
from feedback.sandbox.measures import Measures, measures, win_rate
from feedback.sandbox.public_api import OnProgress, PublicApi, each
from feedback.sandbox.world import Prompt, held_out_prompts, training_prompts


@dataclass(frozen=True)
class Simulation:
    """What the simulated raters did: votes cast, by objective and by what was preferred.

    `agreement` is the share of their decided votes on untied pairs that agree with gold; `seen` are
    the figures of all replies they were shown.
    """

    votes: int
    objectives: dict[str, int]
    preferred: dict[str, int]
    agreement: float | None
    seen: Measures


@dataclass(frozen=True)
class BeforeAfter:
    """Two policy versions on the same prompts. `win_rate` is of the later one, by gold, ties half."""

    before: Measures
    after: Measures
    win_rate: float


@dataclass(frozen=True)
class _CastVote:
    prompt: Prompt
    replies: tuple[str, str]
    judgement: crew.Judgement

    @property
    def agrees(self) -> bool | None:
        """Whether the vote agrees with gold; None where either sees a tie."""
        first, second = (utility(judge(self.prompt, reply), self.judgement.objective) for reply in self.replies)
        if self.judgement.preferred not in (0, 1) or abs(first - second) < 1e-9:
            return None
        return (first > second) == (self.judgement.preferred == 0)


async def simulate(
    base_url: str,
    key: str,
    votes: int,
    *,
    seed: int = 0,
    concurrency: int = 8,
    raters: int = 20,
    both: bool = False,
    on_progress: OnProgress | None = None,
) -> Simulation:
    """Cast `votes` votes, each on a new comparison of a training prompt, three in ten harmful; with `both` every
    comparison has one under each objective, as when people go through the Vote page twice.

    The seed decides prompts, objectives, raters and their noise, not what the server replies.
    Raises SandboxFailed when the server cannot be reached or refuses.
    """
    people = crew.raters(raters, seed)
    draw = _prompts()

    async with PublicApi(base_url, key, connections=concurrency) as api:

        async def cast(number: int) -> list[_CastVote]:
            rng = random.Random(f"vote-{seed}-{number}")
            prompt = draw(rng)
            objectives = crew.draw_objectives(prompt, rng, both=both)[: votes - number]
            comparison = await api.compare(prompt)
            judged = []
            for objective in objectives:
                judgement = crew.vote(prompt, comparison.replies, objective, rng.choice(people), rng)
                await api.vote(comparison.id, judgement)
                judged.append(_CastVote(prompt, comparison.replies, judgement))
            return judged

        numbers = range(0, votes, len(OBJECTIVES) if both else 1)
        return _summary([vote for judged in await each(cast, numbers, concurrency, on_progress) for vote in judged])


async def chat(
    base_url: str,
    key: str,
    chats: int,
    *,
    seed: int = 0,
    concurrency: int = 8,
    on_progress: OnProgress | None = None,
) -> None:
    """Have `chats` chats that nobody votes on, on prompts as they are voted on. Raises SandboxFailed."""
    draw = _prompts()

    async with PublicApi(base_url, key, connections=concurrency) as api:

        async def ask(number: int) -> str:
            return await api.reply(draw(random.Random(f"chat-{seed}-{number}")), "tandem", seed + number)

        await each(ask, range(chats), concurrency, on_progress)


def _prompts() -> Callable[[random.Random], Prompt]:
    """Draws what people ask: training prompts, three in ten harmful."""
    benign = [prompt for prompt in training_prompts() if not prompt.harmful]
    harmful = [prompt for prompt in training_prompts() if prompt.harmful]
    return lambda rng: rng.choice(harmful if rng.random() < HARMFUL_SHARE else benign)


async def measure(
    base_url: str,
    key: str,
    model: str,
    prompts: Sequence[Prompt] | None = None,
    *,
    rounds: int = 2,
    seed: int = 0,
    concurrency: int = 8,
    on_progress: OnProgress | None = None,
) -> Measures:
    """The figures of a model (`tandem`, `tandem@v1`) on prompts, the held-out ones by default.

    Each prompt is asked `rounds` times at temperature 1.
    """
    asked = [*(held_out_prompts() if prompts is None else prompts)] * rounds
    replies = await _sample(base_url, key, [model] * len(asked), asked, seed, concurrency, on_progress)
    return measures(zip(asked, replies, strict=True))


async def before_after(
    base_url: str,
    key: str,
    before: str,
    after: str,
    prompts: Sequence[Prompt] | None = None,
    *,
    rounds: int = 2,
    seed: int = 0,
    concurrency: int = 8,
    on_progress: OnProgress | None = None,
) -> BeforeAfter:
    """Both models on the same prompts, each asked `rounds` times, and who wins by gold."""
    asked = [*(held_out_prompts() if prompts is None else prompts)] * rounds
    models = [before] * len(asked) + [after] * len(asked)
    replies = await _sample(base_url, key, models, asked * 2, seed, concurrency, on_progress)
    earlier, later = replies[: len(asked)], replies[len(asked) :]
    rate = win_rate(zip(asked, later, earlier, strict=True))
    if rate is None:
        raise ValueError("no prompts to compare the versions on")
    return BeforeAfter(
        before=measures(zip(asked, earlier, strict=True)),
        after=measures(zip(asked, later, strict=True)),
        win_rate=rate,
    )


async def _sample(
    base_url: str,
    key: str,
    models: Sequence[str],
    asked: Sequence[Prompt],
    seed: int,
    concurrency: int,
    on_progress: OnProgress | None,
) -> list[str]:
    """One reply to each prompt by the model at its place."""
    async with PublicApi(base_url, key, connections=concurrency) as api:

        async def ask(number: int) -> str:
            return await api.reply(asked[number], models[number], seed + number)

        return await each(ask, range(len(asked)), concurrency, on_progress)


def _summary(cast: Sequence[_CastVote]) -> Simulation:
    agrees = [vote.agrees for vote in cast if vote.agrees is not None]
    return Simulation(
        votes=len(cast),
        objectives=dict(Counter(vote.judgement.objective for vote in cast)),
        preferred=dict(Counter(str(vote.judgement.preferred) for vote in cast)),
        agreement=sum(agrees) / len(agrees) if agrees else None,
        seen=measures((vote.prompt, reply) for vote in cast for reply in vote.replies),
    )
