"""Comparisons in the record: one by id, and those that want votes, most informative first."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, literal, select, tuple_, update
from sqlalchemy.orm import Session

from feedback.errors import Unknown
from feedback.objectives import OBJECTIVES
from feedback.schema import IMPORTED, Comparison, Handout, Sample, Vote, has_ended
from feedback.store import READ_BATCH, checks, clock, insert, page, plan_anew, raters
from feedback.store.among import among
from feedback.store.checks import Shares

COUNTED_EXACTLY = 200
NO_CHECKS = Shares()
# With its id, what says where a pair stands among the open ones.
PLACE = ("votes_counted", "disagreement")


@dataclass(frozen=True)
class Pair:
    """A comparison with its two samples, and the votes of the rater who looks at it."""

    comparison: Comparison
    samples: tuple[Sample, Sample]
    votes: tuple[Vote, ...]

    @property
    def revealed(self) -> bool:
        """The versions are shown to a rater who has voted, under whichever objective."""
        return any(vote.state != "retracted" for vote in self.votes)


def get(
    session: Session,
    comparison_id: str,
    *,
    key_id: str,
    sees_all: bool,
    rater_id: str | None = None,
) -> Pair:
    """One pair. Raises NotFound when there is none or it belongs to somebody else."""
    comparison = session.get(Comparison, comparison_id)
    if comparison is None or not (sees_all or comparison.key_id in (key_id, IMPORTED)):
        raise Unknown("comparison", comparison_id, "GET /v1/comparisons")
    return _pairs(session, [comparison], rater_id)[0]


def hand_out(
    session: Session,
    *,
    key_id: str,
    sees_all: bool,
    rater: str,
    objective: str,
    votes_wanted: int,
    limit: int,
    uniform_share: float,
    check_shares: Shares = NO_CHECKS,
    rng: random.Random | None = None,
) -> tuple[list[Pair], bool]:
    """Pairs that this rater (by name) may still judge under `objective`, most informative first. Returns the first page
    and whether more follow.

    Those with the fewest votes come first; among them those that the preference models disagree about most, and before
    all of them those that no model has seen; then the newest. Each place but the last is given to a pair drawn
    uniformly from all open ones with the probability `uniform_share` instead, and to a check with those of
    `check_shares` (the last one too, when it is the only one).

    Records for each pair, unless it is a check, with which probability it was chosen for its place, given those before
    it; a vote on it will carry that. The number of open pairs is exact up to two hundred, and estimated within some
    percent beyond.
    """
    rng = rng or random.Random()
    # Whether a rater has judged hardly any pair or nearly all of them.
    plan_anew(session)
    # Before the pairs, as wherever both are held.
    rater_id = raters.find_or_create(session, key_id, rater, lock=raters.WHILE_VOTES_COME)
    wanted = _Wanted(_owners(key_id, sees_all), rater_id, objective, votes_wanted)
    ranked = _most_informative(session, wanted, limit + 1, None)
    places = min(limit, len(ranked))
    # Counting and drawing would read all pairs that the rater has judged once more, to find no others.
    are_all = len(ranked) <= limit
    # The next page goes on from the last pair of this one, which is therefore no check.
    who = checks.Who(rater_id, objective, wanted.owners)
    found = checks.draw(session, who, places - (limit > 1), check_shares, rng)
    places -= len(found)
    shown = {check.id for check in found}
    ranked = [comparison for comparison in ranked if comparison.id not in shown]
    more = len(ranked) > places
    counting = uniform_share and not are_all
    sizes = [_count_at(session, wanted, *place) for place in _places(wanted)] if counting else []
    open_checks = sum(check.repeat_of is None and check.votes_counted < votes_wanted for check in found)
    open_pairs = sum(sizes) - open_checks if counting else len(ranked)
    chosen: list[Comparison] = []
    propensities: list[float] = []
    for place in range(places):
        taken = {comparison.id for comparison in (*chosen, *found)}
        free = [comparison for comparison in ranked if comparison.id not in taken]
        best = free[0]
        share = 0.0 if more and limit > 1 and place == places - 1 else uniform_share
        drawn = None
        if rng.random() < share:
            drawn = rng.choice(free) if are_all else _draw(session, wanted, sizes, taken, rng)
        chosen.append(drawn or best)
        uniform = share / max(1, open_pairs - place)
        propensities.append(uniform + (1 - share) * (chosen[-1] is best))
    _record(session, rater_id, chosen, propensities, {"propensity", "created_at", *PLACE})
    for check in found:
        chosen.insert(rng.randrange(max(1, len(chosen))), check)
    return _pairs(session, chosen, rater_id), more


def hand_on(
    session: Session,
    *,
    key_id: str,
    sees_all: bool,
    rater: str,
    objective: str,
    votes_wanted: int,
    limit: int,
    after: str,
) -> tuple[list[Pair], bool]:
    """A later page of `hand_out`, all of it in order: it goes on where the pair `after`, the last of the page before,
    stood when it was handed out, whatever votes it got since. Each of its pairs has the probability 1, unless it was
    handed out with another. Raises NotFound when there is no such comparison.
    """
    plan_anew(session)
    rater_id = raters.find_or_create(session, key_id, rater, lock=raters.WHILE_VOTES_COME)
    wanted = _Wanted(_owners(key_id, sees_all), rater_id, objective, votes_wanted)
    ranked = _most_informative(session, wanted, limit + 1, _place_of(session, after, wanted))
    chosen = ranked[:limit]
    _record(session, rater_id, chosen, [1.0] * len(chosen), {"created_at", *PLACE})
    return _pairs(session, chosen, rater_id), len(ranked) > limit


def count_wanted(session: Session, *, votes_wanted: int) -> int:
    """How many pairs want votes, of whomever and under whichever objective; as exact as `count_open`."""
    wanted = _Wanted((None,), None, "", votes_wanted)
    return sum(_count_at(session, wanted, *place) for place in _places(wanted))


def count_open(
    session: Session, *, key_id: str, sees_all: bool, rater_id: str | None, votes_wanted: int
) -> dict[str, int]:
    """How many pairs this rater may still judge, by objective. Exact up to two hundred of those with as many votes, and
    estimated within some percent beyond.
    """
    plan_anew(session)
    found = {}
    for objective in OBJECTIVES:
        wanted = _Wanted(_owners(key_id, sees_all), rater_id, objective, votes_wanted)
        found[objective] = sum(_count_at(session, wanted, *place) for place in _places(wanted))
    return found


def _record(
    session: Session, rater_id: str, chosen: Sequence[Comparison], propensities: Sequence[float], renewed: set[str]
) -> None:
    """Note that pairs were handed out, and where they stand; of one that was before, the columns `renewed`."""
    if not chosen:
        return
    statement = insert(session, Handout).values(created_at=clock(session))
    session.connection().execute(
        statement.on_conflict_do_update(
            index_elements=["comparison_id", "rater_id"],
            set_={name: statement.excluded[name] for name in sorted(renewed)},
        ),
        [
            {"comparison_id": comparison.id, "rater_id": rater_id, "propensity": propensity}
            | {name: getattr(comparison, name) for name in PLACE}
            for comparison, propensity in sorted(zip(chosen, propensities, strict=True), key=lambda one: one[0].id)
        ],
    )


@dataclass(frozen=True)
class Unjudged:
    """A pair that wants votes, as a preference model sees it."""

    id: str
    messages: list[dict[str, Any]]
    replies: tuple[str, str]
    ended: tuple[bool, bool]

    @property
    def can_be_read(self) -> bool:
        """Whether there is a text to score on both sides: calls of tools have none."""
        return all(reply.strip() for reply in self.replies)


def unjudged(session: Session, *, votes_wanted: int, limit: int) -> list[Unjudged]:
    """The open pairs of all keys in the order in which they are handed out, those that no model has seen first."""
    rows = _most_informative(session, _Wanted((None,), None, "", votes_wanted), limit, None)
    return [
        Unjudged(
            pair.comparison.id,
            pair.samples[0].messages,
            (pair.samples[0].text, pair.samples[1].text),
            (has_ended(pair.samples[0].finish_reason), has_ended(pair.samples[1].finish_reason)),
        )
        for first in range(0, len(rows), READ_BATCH)
        for pair in _pairs(session, rows[first : first + READ_BATCH], None)
    ]


def set_disagreement(session: Session, disagreement: Mapping[str, float]) -> None:
    """Say how much the preference models differ about pairs, by id: 0, all agree, to 1. Unknown ids are passed over."""
    table = Comparison.__table__
    if disagreement:
        session.connection().execute(
            update(table)  # type: ignore[arg-type]
            .where(table.c.id == bindparam("comparison"))
            .values(disagreement=bindparam("value")),
            [
                {"comparison": id_, "value": min(1.0, max(0.0, float(value)))}
                for id_, value in sorted(disagreement.items())
            ],
        )


def list_all(
    session: Session,
    *,
    key_id: str,
    sees_all: bool,
    rater: str,
    limit: int,
    after: str | None,
    order: str,
) -> tuple[list[Pair], bool]:
    """All pairs visible to the key, by time; those shown again once."""
    # A key may have made most pairs or none.
    plan_anew(session)
    pages = []
    # An expression: by the column itself SQLite would take all pairs from its index, and sort them for a page.
    is_repeat = Comparison.repeat_of.concat("").is_not(None)
    for owner in _owners(key_id, sees_all):
        statement = select(Comparison).where(~is_repeat)
        if owner is not None:
            statement = statement.where(Comparison.key_id == owner)
        pages.append(page(session, statement, Comparison.id, limit=limit, after=after, order=order))
    newest_first = order == "desc"
    rows = sorted((row for rows, _ in pages for row in rows), key=lambda row: row.id, reverse=newest_first)
    more = len(rows) > limit or any(more for _, more in pages)
    return _pairs(session, rows[:limit], raters.find(session, key_id, rater)), more


@dataclass(frozen=True)
class _Wanted:
    """What is open to a rater. `owners` are the keys whose pairs they may see, or None alone for all."""

    owners: tuple[str | None, ...]
    rater_id: str | None
    objective: str
    votes_wanted: int

    def at(self, votes_counted: int, owner: str | None) -> Select[Comparison]:
        """The open pairs of one owner that have so many votes."""
        statement = select(Comparison).where(Comparison.votes_counted == votes_counted, Comparison.is_open.is_(True))
        if owner is not None:
            statement = statement.where(Comparison.key_id == owner)
        if self.rater_id is not None:
            statement = statement.where(
                ~select(Vote.id)
                .where(
                    Vote.comparison_id == Comparison.id,
                    Vote.rater_id == self.rater_id,
                    Vote.objective == self.objective,
                    Vote.state != "retracted",
                )
                .exists()
            )
        return statement


def _owners(key_id: str, sees_all: bool) -> tuple[str | None, ...]:
    """A key sees the comparisons made with it and the imported ones; an operator's key sees all."""
    return (None,) if sees_all else (key_id, IMPORTED)


class _Place(NamedTuple):
    """Where a pair stands, or stood, among the open ones."""

    votes_counted: int
    disagreement: float
    id: str


def _place_of(session: Session, comparison_id: str, wanted: _Wanted) -> _Place:
    """Where a pair stood when this rater was handed it last, or stands. Raises NotFound, of another's too."""
    comparison = session.get(Comparison, comparison_id)
    if comparison is None or not {None, comparison.key_id} & {*wanted.owners}:
        raise Unknown("comparison", comparison_id, "GET /v1/comparisons")
    handed = session.get(Handout, (comparison_id, wanted.rater_id))
    if handed is None or handed.votes_counted is None or handed.disagreement is None:
        return _Place(comparison.votes_counted, comparison.disagreement, comparison_id)
    return _Place(handed.votes_counted, handed.disagreement, comparison_id)


def _most_informative(session: Session, wanted: _Wanted, limit: int, last: _Place | None) -> list[Comparison]:
    # One query a number of votes and owner, each of which reads just the rows it returns from an index.
    found: list[Comparison] = []
    for votes_counted in range(0 if last is None else last.votes_counted, wanted.votes_wanted):
        level: list[Comparison] = []
        for owner in wanted.owners:
            statement = wanted.at(votes_counted, owner)
            if last is not None and votes_counted == last.votes_counted:
                rank = tuple_(Comparison.disagreement, Comparison.id)
                statement = statement.where(rank < tuple_(literal(last.disagreement), literal(last.id)))
            statement = statement.order_by(Comparison.disagreement.desc(), Comparison.id.desc()).limit(limit)
            level += session.scalars(statement)
        level.sort(key=lambda comparison: (comparison.disagreement, comparison.id), reverse=True)
        found += level
        if len(found) >= limit:
            break
    return found[:limit]


def _places(wanted: _Wanted) -> list[tuple[int, str | None]]:
    """Where open pairs are: by number of votes and owner."""
    return [(votes_counted, owner) for votes_counted in range(wanted.votes_wanted) for owner in wanted.owners]


def _count_at(session: Session, wanted: _Wanted, votes_counted: int, owner: str | None) -> int:
    some = wanted.at(votes_counted, owner).with_only_columns(Comparison.draw).order_by(Comparison.draw)
    draws = list(session.scalars(some.limit(COUNTED_EXACTLY + 1)))
    if len(draws) <= COUNTED_EXACTLY:
        return len(draws)
    # The draws are spread evenly from 0 to 1, so that many of them below this one tell how many there are.
    return round(COUNTED_EXACTLY / draws[-1])


def _draw(
    session: Session, wanted: _Wanted, sizes: list[int], taken: set[str], rng: random.Random
) -> Comparison | None:
    """An open pair that is not taken, each as likely as another. None when there is none left."""
    sizes = list(sizes)
    while any(sizes):
        place = rng.choices(range(len(sizes)), weights=sizes)[0]
        statement = wanted.at(*_places(wanted)[place]).where(Comparison.id.not_in(taken)).order_by(Comparison.draw)
        # Few are counted off. Of many, the one so far beyond a random point: one next to a wide gap in the draws is
        # hardly likelier than others then.
        point = rng.random() if sizes[place] > COUNTED_EXACTLY else 0.0
        steps = rng.randrange(min(sizes[place], COUNTED_EXACTLY))
        for beyond in (Comparison.draw >= point, Comparison.draw < point):
            for found in session.scalars(statement.where(beyond).offset(steps).limit(1)):
                return found
        # Fewer than thought: some were taken or judged meanwhile.
        sizes[place] = steps
    return None


def _pairs(session: Session, comparisons: list[Comparison], rater_id: str | None) -> list[Pair]:
    sample_ids = [id_ for comparison in comparisons for id_ in (comparison.sample_0, comparison.sample_1)]
    samples = {sample.id: sample for sample in session.scalars(select(Sample).where(among(Sample.id, sample_ids)))}
    votes: dict[str, list[Vote]] = {}
    if rater_id is not None:
        ids = [comparison.id for comparison in comparisons]
        for vote in session.scalars(select(Vote).where(Vote.rater_id == rater_id, among(Vote.comparison_id, ids))):
            votes.setdefault(vote.comparison_id, []).append(vote)
    return [
        Pair(
            comparison,
            (samples[comparison.sample_0], samples[comparison.sample_1]),
            tuple(votes.get(comparison.id, ())),
        )
        for comparison in comparisons
    ]
