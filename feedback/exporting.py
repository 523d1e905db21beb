"""Export of votes as preference pairs. A format that cannot say a thing leaves it out, and the report says so."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from feedback.examples import original_of, says_more
from feedback.formats import Preference, SetAside, named
from feedback.messages import turns
from feedback.store import READ_BATCH, Store, imports, votes
from feedback.store.finding import Wanted

ALL = Wanted()


@dataclass(frozen=True)
class Report:
    """How many pairs were written, and how many votes were left out for which reason."""

    written: int
    left_out: dict[str, int]


def export_votes(
    store: Store,
    out: BinaryIO,
    format_name: str,
    wanted: Wanted = ALL,
    *,
    system_messages: bool = True,
    on_progress: Callable[[int, int | None], None] = lambda _done, _of: None,
) -> Report:
    """Write every vote that is looked for and counts as a line. A rewritten reply makes a second pair: rewritten >
    original. Without `system_messages` the conversations lack what instructed the assistant. `on_progress` is told how
    many votes were gone through, and of how many where none is sought, and at the end of as many.

    Raises RecordUnavailable, with a part of them written.
    """
    file_format = named(format_name)
    written, left_out = 0, Counter[str]()

    def write_all(session: Any) -> None:
        nonlocal written
        counts = votes.count_by_state(session)
        of = counts.get("accepted", 0) + counts.get("counted", 0) if wanted == ALL else None
        on_progress(0, of)
        done = 0
        for done, judged in enumerate(imports.judged(session, wanted), start=1):
            if done % READ_BATCH == 0:
                on_progress(done, of)
            pairs = preferences(judged, format_name, system_messages=system_messages)
            if not pairs:
                left_out[f"preferred is {judged.vote.preferred}"] += 1
            for preference in pairs:
                if not preference.messages:
                    left_out["nothing but system messages came before the replies"] += 1
                    continue
                try:
                    line = file_format.render(preference)
                except SetAside as error:
                    left_out[error.message] += 1
                else:
                    out.write(line + b"\n")
                    written += 1
        # Of those that count some may be checks, or of texts that were erased.
        on_progress(done, done)

    store.read_through(write_all)
    return Report(written, dict(left_out))


def preferences(judged: imports.Judged, format_name: str, *, system_messages: bool = True) -> list[Preference]:
    """The pairs that one vote says: chosen over rejected, and rewritten over original."""
    comparison, vote = judged.comparison, judged.vote
    messages = judged.samples[0].messages
    if not system_messages:
        messages = turns(messages)
    replies = [sample.message or {"role": "assistant", "content": sample.text} for sample in judged.samples]
    origin = comparison.origin or {}
    rest = origin.get("rest", {}) if origin.get("format") == format_name else {}
    pairs = []
    if vote.preferred in ("0", "1"):
        chosen = int(vote.preferred)
        pairs.append(Preference(messages, replies[chosen], replies[1 - chosen], rest))
    original = original_of(vote.preferred)
    if says_more(vote.ideal, judged.samples[original].text):
        pairs.append(Preference(messages, {"role": "assistant", "content": vote.ideal}, replies[original]))
    return pairs
