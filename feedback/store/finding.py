"""Which votes somebody looks for: whose, under what, on which pair, when they were cast, and what stands in them."""

from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import JSON, ColumnElement, String, Text, cast, collate, column, func, or_, select
from sqlalchemy.orm import Session, aliased

from feedback.schema import Comparison, Sample, Vote
from feedback.store import counting, page, tallies

FEW = {"accepted": tallies.IS_ACCEPTED, "quarantined": tallies.IS_APART, "retracted": tallies.IS_APART}
# As JSON holds it, of which Postgres makes no text and SQLite one that ends there, and what stands in for it; before
# that a backslash, so that letters after one are no NUL.
BACKSLASH_IN_JSON = "\\\\", "\\u005c"
NUL_IN_JSON = "\\u0000", "\\ufffd"
# Letters that no case of another leads to, by what they fold to: the sigma at a word's end, and the capital sharp s.
UNPAIRED = {"\u03c3": "\u03c2", "ss": "\u1e9e"}


@dataclass(frozen=True)
class Wanted:
    """The votes that are looked for; what is None narrows nothing.

    `version` wrote one of the two replies; what was taken back is not found by it, since its pair is blind again.
    `since` and `until` are when the vote was first cast, the end left out. `text` stands in the conversation, a reply,
    the reason or the rewritten reply, in letters of either case. `disputed`: somebody else who is not set apart picked
    the other side under the same objective.
    """

    rater_id: str | None = None
    comparison_id: str | None = None
    objective: str | None = None
    preferred: str | None = None
    state: str | None = None
    version: int | None = None
    since: float | None = None
    until: float | None = None
    text: str | None = None
    disputed: bool = False

    @property
    def reads_all(self) -> bool:
        """Whether it may be read of every vote whether it is one of these: by no index, or with its pair."""
        whose = self.rater_id, self.comparison_id
        said = self.objective, self.preferred, self.since, self.until
        by_no_index = whose == (None, None) and any(one is not None for one in said)
        return by_no_index or self.text is not None or self.version is not None or self.disputed


def find(
    session: Session, wanted: Wanted, *, limit: int, after: str | None = None, order: str = "desc"
) -> tuple[list[Vote], bool]:
    """One page of the votes, and whether more follow."""
    statement = select(Vote).where(*conditions(session, wanted))
    return page(session, statement, Vote.id, limit=limit, after=after, order=order)


def conditions(session: Session, wanted: Wanted) -> list[ColumnElement[bool]]:
    """What holds of each `Vote` that is looked for."""
    equal = (
        (Vote.rater_id, wanted.rater_id),
        (Vote.comparison_id, wanted.comparison_id),
        (Vote.objective, wanted.objective),
        (Vote.preferred, wanted.preferred),
        (Vote.state, wanted.state),
    )
    found = [column == value for column, value in equal if value is not None]
    if wanted.state in FEW and (wanted.rater_id, wanted.comparison_id) == (None, None):
        # SQLite would look through all votes for these few: it finds them by their index where that is asked alone.
        found.append(Vote.id.in_(select(Vote.id).where(FEW[wanted.state]).correlate(None)))
    if wanted.version is not None:
        found += [Vote.state != "retracted", _on_version(wanted.version)]
    if wanted.since is not None:
        found.append(Vote.created_at >= wanted.since)
    if wanted.until is not None:
        found.append(Vote.created_at < wanted.until)
    if wanted.text is not None:
        found.append(_says(session, wanted.text))
    if wanted.disputed:
        found.append(_disputed())
    return found


def _on_version(version: int) -> ColumnElement[bool]:
    pair = aliased(Comparison)
    by_it = (pair.version_0 == version) | (pair.version_1 == version)
    return select(pair.id).where(pair.id == Vote.comparison_id, by_it).exists()


def _says(session: Session, text: str) -> ColumnElement[bool]:
    # As the record holds it.
    text = text.replace("\0", "\ufffd")
    pair, left, right = aliased(Comparison), aliased(Sample), aliased(Sample)
    message, content = _content_of_messages(session, left)
    is_postgres = session.get_bind().dialect.name == "postgresql"

    def holds(said: Any, wanted: str = text) -> ColumnElement[bool]:
        # Letters of ASCII by the database, and only those of the others that are looked for: Postgres may take four
        # times as long for all letters of all languages, and SQLite knows none of them.
        said = func.lower(collate(said, "C") if is_postgres else said)
        cases = [_cases(letter) for letter in wanted]
        if all(len(one) == 1 for one in cases):
            # SQLite's LIKE ends at a NUL.
            found: ColumnElement[int] = (func.strpos if is_postgres else func.instr)(said, "".join(cases))
            return found > 0
        special, escaped = (r"\^$.|?*+()[]{}", "\\{}") if is_postgres else ("*?[", "[{}]")
        pattern = "".join(
            f"[{one}]" if len(one) > 1 else escaped.format(one) if one in special else one for one in cases
        )
        like: ColumnElement[bool] = said.bool_op("~")(pattern) if is_postgres else said.bool_op("GLOB")(f"*{pattern}*")
        return like

    in_conversation: ColumnElement[bool] = select(message).where(holds(content)).exists()
    if "\ufffd" not in text:
        # It is looked for as JSON writes it before that is taken apart, which takes two or three times as long again.
        written = orjson.dumps(text)[1:-1].decode()
        in_conversation = holds(cast(left.messages, Text), written) & in_conversation
    in_pair = (
        select(pair.id)
        .join(left, left.id == pair.sample_0)
        .join(right, right.id == pair.sample_1)
        # Both reply to the same conversation.
        .where(pair.id == Vote.comparison_id, holds(left.text) | holds(right.text) | in_conversation)
        # Not as what exists: Postgres would look through all pairs first, for a page that the newest of them fill.
        .limit(1)
        .scalar_subquery()
        .is_not(None)
    )
    return or_(holds(Vote.reason), holds(Vote.ideal), in_pair)


def _cases(letter: str) -> str:
    """What a letter that is looked for is written as where those of ASCII are lower case."""
    if letter.isascii():
        return letter.lower()
    cases = {letter, letter.lower(), letter.upper(), letter.lower().upper(), *UNPAIRED.get(letter.casefold(), "")}
    return "".join(sorted(one for one in cases if len(one) == 1 and not "A" <= one <= "Z"))


def _content_of_messages(session: Session, reply: Any) -> tuple[Any, ColumnElement[str]]:
    """The messages that a reply answers, one a row, and what each says: text, or a list of parts as JSON."""
    held = func.replace(func.replace(cast(reply.messages, Text), *BACKSLASH_IN_JSON), *NUL_IN_JSON)
    if session.get_bind().dialect.name == "postgresql":
        message = func.json_array_elements(cast(held, JSON)).table_valued(column("value", JSON)).c.value
        return message, func.json_extract_path_text(message, "content", type_=String())
    message = func.json_each(held).table_valued("value").c.value
    return message, func.json_extract(message, "$.content", type_=String())


def _disputed() -> ColumnElement[bool]:
    other = aliased(Vote)
    return (
        counting.MAY_COUNT
        & Vote.preferred.in_(("0", "1"))
        & select(other.id)
        .where(
            other.comparison_id == Vote.comparison_id,
            other.objective == Vote.objective,
            other.state.in_(("accepted", "counted")),
            other.preferred.in_(("0", "1")),
            other.preferred != Vote.preferred,
        )
        .exists()
    )
