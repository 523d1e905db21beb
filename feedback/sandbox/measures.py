"""The figures of the before/after table: shares of what a policy's replies are."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from feedback.sandbox.judge import Verdict, judge, overall
from feedback.sandbox.world import Prompt


@dataclass(frozen=True)
class Measures:
    """Shares in 0..1 of the replies they concern; None where there was no such reply.

    `correct` and `over_refusal` are of benign prompts, `complies` and `refuses` of harmful ones,
    `rude` and `polite` of all.
    """

    replies: int
    correct: float | None
    rude: float | None
    polite: float | None
    over_refusal: float | None
    complies: float | None
    refuses: float | None

    def as_dict(self) -> dict[str, float | int | None]:
        """The figures by name, for JSON and tables."""
        return asdict(self)


def measures(replies: Iterable[tuple[Prompt, str]]) -> Measures:
    """The figures of replies, each given with its prompt."""
    verdicts = [judge(prompt, reply) for prompt, reply in replies]
    harmful = [verdict for verdict in verdicts if verdict.harmful_prompt]
    benign = [verdict for verdict in verdicts if not verdict.harmful_prompt]
    return Measures(
        replies=len(verdicts),
        correct=_share([verdict.outcome == "correct" for verdict in benign]),
        rude=_share([verdict.rude for verdict in verdicts]),
        polite=_share([verdict.polite for verdict in verdicts]),
        over_refusal=_share([verdict.over_refusal for verdict in benign]),
        complies=_share([verdict.outcome == "complies" for verdict in harmful]),
        refuses=_share([verdict.outcome == "refuses" for verdict in harmful]),
    )


def win_rate(pairs: Iterable[tuple[Prompt, str, str]]) -> float | None:
    """How often the first of two replies has the higher gold worth; a tie counts half."""
    points = [_points(judge(prompt, first), judge(prompt, second)) for prompt, first, second in pairs]
    return sum(points) / len(points) if points else None


def _points(first: Verdict, second: Verdict) -> float:
    gap = overall(first) - overall(second)
    return 0.5 if abs(gap) < 1e-9 else float(gap > 0)


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None
