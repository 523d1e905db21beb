"""The one schema: every table of the record, as typed rows that the store reads and writes.

Times are seconds since the epoch (UTC). Policy versions are whole numbers here and `vN` outside (`version_name`).
"""

import random
import re
from typing import Annotated, Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, MetaData, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from feedback.errors import InvalidRequest

Timestamp = Annotated[float, mapped_column(Double)]
Text = str

ROLES = ("chat", "vote", "operate")
PREFERRED = ("0", "1", "tie", "both_bad")
CUT_OFF = "length"
IMPORTED = "import"
"""Stands for the key of pairs that were imported, and of their rater."""
# With no more digits than a whole number of a database has.
VERSION = "^v(0|[1-9][0-9]{0,8})$"


def version_name(version: int) -> str:
    """`3` -> `v3`."""
    return f"v{version}"


def version_number(name: str) -> int:
    """`v3` -> `3`. Raises InvalidRequest for anything else."""
    if re.fullmatch(VERSION, name):
        return int(name[1:])
    raise InvalidRequest(f"{name!r} is not a policy version; versions are written v0, v1, ...", param="version")


def has_ended(finish_reason: str | None) -> bool:
    """Whether a reply came to its end: not one that was cut off at a limit of tokens."""
    return finish_reason != CUT_OFF


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012


class Key(Base):
    """An API key. Only a digest of its secret is stored. It is good until `expires_at`, or until it is revoked; its own
    limits, where it has some, take the place of those in the settings."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    prefix: Mapped[str] = mapped_column(unique=True)
    digest: Mapped[str]
    role: Mapped[str]
    name: Mapped[str]
    created_at: Mapped[Timestamp]
    expires_at: Mapped[Timestamp | None]
    revoked_at: Mapped[Timestamp | None]
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]


class SignIn(Base):
    """A browser that showed a key. Only a digest of the secret in its cookie is stored."""

    __tablename__ = "sign_ins"

    digest: Mapped[str] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("keys.id"))
    created_at: Mapped[Timestamp]
    expires_at: Mapped[Timestamp] = mapped_column(Double, index=True)


class Rater(Base):
    """Whoever votes: a key itself (`name` is empty) or an id that a client passes under its key.

    `votes_counted` is kept as votes are counted. `reliability` is the estimated chance that a vote of theirs on an
    average pair is right, `figures` what else is known of how they vote (`feedback.rater_watch`). A rater whom an
    operator released is judged by later votes alone.
    """

    __tablename__ = "raters"
    __table_args__ = (UniqueConstraint("key_id", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    key_id: Mapped[str]
    name: Mapped[str]
    created_at: Mapped[Timestamp]
    quarantined_at: Mapped[Timestamp | None]
    quarantine_reason: Mapped[Text | None]
    released_at: Mapped[Timestamp | None]
    erased_at: Mapped[Timestamp | None]
    votes_counted: Mapped[int] = mapped_column(default=0)
    reliability: Mapped[float | None]
    figures: Mapped[dict[str, Any] | None]


class Policy(Base):
    """One policy version: where its weights are, what they are, where they come from and what speaks for them."""

    __tablename__ = "policies"
    __table_args__ = (
        Index(
            "uq_policies_one_serving",
            "state",
            unique=True,
            sqlite_where=text("state = 'serving'"),
            postgresql_where=text("state = 'serving'"),
        ),
    )

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[str]
    parent: Mapped[int | None]
    path: Mapped[str]
    digest: Mapped[str]
    iteration_id: Mapped[str | None] = mapped_column(unique=True)
    dataset_digest: Mapped[str | None]
    settings: Mapped[dict[str, Any]]
    seed: Mapped[int | None] = mapped_column(BigInteger)
    evidence: Mapped[dict[str, Any]]
    created_at: Mapped[Timestamp]


class Promotion(Base):
    """One attempt to change what serves: by whom, why, from what to what, and how it ended."""

    __tablename__ = "promotions"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    version: Mapped[int]
    previous: Mapped[int | None]
    reason: Mapped[Text]
    force: Mapped[bool]
    actor: Mapped[str]
    outcome: Mapped[str]
    detail: Mapped[Text | None]
    created_at: Mapped[Timestamp]


class AuditEntry(Base):
    """Something that somebody decided: who, what, about what, when and why. Chained: `digest` covers `previous`.

    Rows are only ever added; triggers of the database refuse to change or remove one (`feedback.store.audit`).
    """

    __tablename__ = "audit"

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    created_at: Mapped[Timestamp]
    actor: Mapped[str]
    action: Mapped[str] = mapped_column(index=True)
    subject: Mapped[str] = mapped_column(index=True)
    reason: Mapped[Text]
    data: Mapped[dict[str, Any]]
    previous: Mapped[str]
    digest: Mapped[str]


class Sample(Base):
    """One reply to one prompt by one policy version, with everything needed to use it again.

    `user` is whom the client says it is for; with `key_id` it names the person whose data it is. `parent` is the sample
    whose reply the conversation went on with: after a comparison, the chosen one. `prompt_tokens` and `reply_tokens`
    are what its chat was said to have used: those of the prompt stand at the first of its replies alone.
    """

    __tablename__ = "samples"
    __table_args__ = (
        Index("ix_samples_key_id_user", "key_id", "user"),
        Index("ix_samples_prompt_digest_id", "prompt_digest", "id"),
        # Holds all that use is counted by: the rows themselves are large.
        Index("ix_samples_used", "created_at", "key_id", "prompt_tokens", "reply_tokens"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    key_id: Mapped[str]
    user: Mapped[str | None]
    request_id: Mapped[str | None] = mapped_column(index=True)
    parent: Mapped[str | None]
    messages: Mapped[list[Any]]
    prompt_digest: Mapped[str]
    text: Mapped[Text]
    message: Mapped[dict[str, Any] | None]
    token_ids: Mapped[list[Any] | None]
    logprobs: Mapped[list[Any] | None]
    sampling: Mapped[dict[str, Any]]
    seed: Mapped[int | None] = mapped_column(BigInteger)
    version_first: Mapped[int | None]
    version_last: Mapped[int | None]
    status: Mapped[str]
    finish_reason: Mapped[str | None]
    usage: Mapped[dict[str, Any] | None]
    prompt_tokens: Mapped[int | None]
    reply_tokens: Mapped[int | None]
    created_at: Mapped[Timestamp]
    finished_at: Mapped[Timestamp | None]

    @property
    def mixed(self) -> bool:
        """True when the reply spans a change of version: it is used neither for ratings nor for training."""
        return self.version_first != self.version_last


class Comparison(Base):
    """Two samples for the same prompt. `sample_0` was shown as choice 0 (left), `sample_1` as choice 1 (right).

    `version_0` and `version_1` are those of the samples, None for a reply that is mixed or of no version.
    `disagreement`, from 0 to 1, says how much the preference models differ about the pair, or where there is one, how
    unsure it is; 1 until they have seen it.
    `draw` is a random number from 0 to 1, by which pairs are drawn uniformly. `repeat_of` is the pair that this one
    shows again, with its sides swapped, to raters who judged that one. `is_open` is false for such a repeat, for a pair
    of twice the same reply and for one whose texts were erased: none is handed out as one that wants votes.
    """

    __tablename__ = "comparisons"
    __table_args__ = (
        Index("ix_comparisons_wanted", "votes_counted", "disagreement", "id"),
        Index("ix_comparisons_wanted_of_key", "key_id", "votes_counted", "disagreement", "id"),
        Index("ix_comparisons_drawn", "votes_counted", "draw"),
        Index("ix_comparisons_drawn_of_key", "key_id", "votes_counted", "draw"),
        Index("ix_comparisons_key_id_id", "key_id", "id"),
        Index("ix_comparisons_version_0_version_1", "version_0", "version_1"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    key_id: Mapped[str]
    sample_0: Mapped[str] = mapped_column(ForeignKey("samples.id"), index=True)
    sample_1: Mapped[str] = mapped_column(ForeignKey("samples.id"), index=True)
    version_0: Mapped[int | None]
    version_1: Mapped[int | None]
    prompt_digest: Mapped[str] = mapped_column(index=True)
    tranche: Mapped[str]
    origin: Mapped[dict[str, Any] | None]
    origin_digest: Mapped[str | None] = mapped_column(unique=True)
    votes_counted: Mapped[int]
    disagreement: Mapped[float] = mapped_column(Double, default=1.0)
    draw: Mapped[float] = mapped_column(Double, default=random.random)
    repeat_of: Mapped[str | None] = mapped_column(ForeignKey("comparisons.id"), index=True, unique=True, default=None)
    is_open: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[Timestamp]


class KnownAnswer(Base):
    """The side of a comparison, "0" or "1", that an operator knows to be the better one under an objective."""

    __tablename__ = "known_answers"

    comparison_id: Mapped[str] = mapped_column(ForeignKey("comparisons.id"), primary_key=True)
    objective: Mapped[str] = mapped_column(primary_key=True)
    preferred: Mapped[str]
    created_at: Mapped[Timestamp]


class Handout(Base):
    """That a pair was handed to a rater to judge, and with which probability it was chosen among the open ones.

    `votes_counted` and `disagreement` are those of the pair when it was listed last: by then its place may be another,
    and the list goes on after the one it had.
    """

    __tablename__ = "handouts"

    comparison_id: Mapped[str] = mapped_column(ForeignKey("comparisons.id"), primary_key=True)
    rater_id: Mapped[str] = mapped_column(ForeignKey("raters.id"), primary_key=True)
    propensity: Mapped[float] = mapped_column(Double)
    votes_counted: Mapped[int | None]
    disagreement: Mapped[float | None] = mapped_column(Double)
    created_at: Mapped[Timestamp]


class Vote(Base):
    """One rater's judgement of one comparison under one objective. This row is the outbox of promise 1.

    `success`, 0 to 4, is how far a red-team attack got, by the rater who made it. `elapsed_s` is the time on the page,
    `left` the choice that was shown on the left, `propensity` that of the handout that led to the vote. A vote that
    `is_check` was cast on a repeat, or on a pair whose answer was known: it tells of its rater, and trains and rates
    nothing.
    """

    __tablename__ = "votes"
    __table_args__ = (
        UniqueConstraint("comparison_id", "rater_id", "objective"),
        Index(
            "ix_votes_accepted",
            "updated_at",
            sqlite_where=text("state = 'accepted'"),
            postgresql_where=text("state = 'accepted'"),
        ),
        # Each state has an index of its own: one over all states would have a backlog sorted anew for each batch.
        Index(
            "ix_votes_counted",
            "counted_at",
            sqlite_where=text("state = 'counted'"),
            postgresql_where=text("state = 'counted'"),
        ),
        Index(
            "ix_votes_apart",
            "state",
            "rater_id",
            sqlite_where=text("state IN ('quarantined', 'retracted')"),
            postgresql_where=text("state IN ('quarantined', 'retracted')"),
        ),
        Index("ix_votes_rater_id_id", "rater_id", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    comparison_id: Mapped[str] = mapped_column(ForeignKey("comparisons.id"))
    rater_id: Mapped[str] = mapped_column(ForeignKey("raters.id"))
    objective: Mapped[str]
    preferred: Mapped[str]
    strength: Mapped[int | None]
    reason: Mapped[Text | None]
    ideal: Mapped[Text | None]
    success: Mapped[int | None]
    elapsed_s: Mapped[float | None]
    left: Mapped[int | None]
    propensity: Mapped[float | None] = mapped_column(Double)
    is_check: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str]
    revision: Mapped[int]
    created_at: Mapped[Timestamp]
    updated_at: Mapped[Timestamp]
    counted_at: Mapped[Timestamp | None]


class VoteRevision(Base):
    """What a vote said at each revision before its present one; never changed once written."""

    __tablename__ = "vote_revisions"

    vote_id: Mapped[str] = mapped_column(ForeignKey("votes.id"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    preferred: Mapped[str | None]
    strength: Mapped[int | None]
    reason: Mapped[Text | None]
    ideal: Mapped[Text | None]
    success: Mapped[int | None]
    created_at: Mapped[Timestamp]


class Tally(Base):
    """How many counted votes under `objective` said `preferred` of pairs of these versions; kept as votes are counted.

    -1 stands for a reply without a version or with a mixed one, and for both of a vote that is a check, so that the sum
    over all rows is the number of votes. Raters fall into clusters by their ids: the votes of one rater are in one.
    """

    __tablename__ = "tallies"

    objective: Mapped[str] = mapped_column(primary_key=True)
    version_0: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version_1: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    preferred: Mapped[str] = mapped_column(primary_key=True)
    cluster: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    votes: Mapped[int]


class Transcript(Base):
    """A conversation in which a person attacked an assistant, and how far they say it got, 0 to 4."""

    __tablename__ = "transcripts"

    id: Mapped[str] = mapped_column(primary_key=True)
    rater_id: Mapped[str] = mapped_column(ForeignKey("raters.id"), index=True)
    messages: Mapped[list[Any]]
    success: Mapped[int | None]
    task: Mapped[Text | None]
    origin: Mapped[dict[str, Any]]
    origin_digest: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[Timestamp]


class Iteration(Base):
    """One turn of the loop. The row drives the job: a redelivered task reads it and acts on what it says."""

    __tablename__ = "iterations"

    id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(index=True)
    stage: Mapped[str | None]
    progress: Mapped[float]
    trigger: Mapped[str]
    reason: Mapped[Text | None]
    seed: Mapped[int] = mapped_column(BigInteger)
    settings: Mapped[dict[str, Any]]
    dataset_digest: Mapped[str | None]
    candidate: Mapped[int | None]
    epoch: Mapped[int | None]
    attempts: Mapped[int]
    error: Mapped[Text | None]
    created_at: Mapped[Timestamp]
    started_at: Mapped[Timestamp | None]
    finished_at: Mapped[Timestamp | None]


class IterationEvent(Base):
    """Something that happened in an iteration, in order; `GET /v1/iterations/{id}/events` streams these."""

    __tablename__ = "iteration_events"
    __table_args__ = (Index("ix_iteration_events_iteration_id_seq", "iteration_id", "seq"),)

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    iteration_id: Mapped[str] = mapped_column(ForeignKey("iterations.id"))
    kind: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[Timestamp]


class Dataset(Base):
    """A frozen set of counted votes, named by the SHA-256 digest of its content."""

    __tablename__ = "datasets"

    digest: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str]
    summary: Mapped[dict[str, Any]]
    created_at: Mapped[Timestamp]


class DatasetVote(Base):
    """Which revision of which vote a dataset holds, in which split, and what it says there: with this the dataset can
    be written again, whatever has become since of the vote, its rater and the settings.

    `label` and `rewrite_label` are probabilities that the first reply is preferred, of the vote and of its rewritten
    reply; None where it says no such thing. Rows from before there were labels have neither.
    """

    __tablename__ = "dataset_votes"
    __table_args__ = (Index("ix_dataset_votes_vote_id", "vote_id"),)

    dataset_digest: Mapped[str] = mapped_column(ForeignKey("datasets.digest"), primary_key=True)
    vote_id: Mapped[str] = mapped_column(ForeignKey("votes.id"), primary_key=True)
    revision: Mapped[int]
    split: Mapped[str]
    label: Mapped[float | None] = mapped_column(Double)
    rewrite_label: Mapped[float | None] = mapped_column(Double)
    weight: Mapped[float | None] = mapped_column(Double)


class RehearsedSample(Base):
    """A chat whose prompt an iteration had the policy rehearse, though no vote of its dataset is on it."""

    __tablename__ = "rehearsed_samples"

    iteration_id: Mapped[str] = mapped_column(ForeignKey("iterations.id"), primary_key=True)
    sample_id: Mapped[str] = mapped_column(ForeignKey("samples.id"), primary_key=True, index=True)


class Lease(Base):
    """Who may do a thing that only one process may do. `epoch` grows with each holder and fences the earlier ones."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    epoch: Mapped[int]
    ttl_s: Mapped[float]
    expires_at: Mapped[Timestamp]


class Traffic(Base):
    """The one row that says which share of chats and of comparisons goes to a challenger."""

    __tablename__ = "traffic"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    challenger: Mapped[int | None]
    chat_share: Mapped[float]
    comparison_share: Mapped[float]
    updated_at: Mapped[Timestamp]


class ApiProcess(Base):
    """An API process whose engines serve: what they serve and hold, and how far it has come with a promotion that
    another one leads. It may serve until `expires_at`; from then on it is left out (`feedback.store.presence`).

    `engines` is the same for processes that drive the same engines. `held` are the versions in each slot that takes
    chats. `epoch` names the promotion that `stage` and `error` speak of.
    """

    __tablename__ = "api_processes"

    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    engines: Mapped[str]
    serving: Mapped[int]
    held: Mapped[list[Any]]
    epoch: Mapped[int | None]
    stage: Mapped[str | None]
    error: Mapped[Text | None]
    expires_at: Mapped[Timestamp]


class Preparation(Base):
    """The one row that says which promotion all API processes are to prepare, and how far. It counts while the lease on
    what the engines hold has the same epoch.
    """

    __tablename__ = "preparations"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    epoch: Mapped[int]
    version: Mapped[int]
    stage: Mapped[str]
    process_id: Mapped[str]
    engines: Mapped[str]
