"""The settings of every process: one frozen object, read once at its entry, passed down.

A value comes from, strongest first: the command line, the environment (`TANDEM_POLICY`, `TANDEM_SERVE__PORT`),
`tandem.toml` in the current folder, `tandem.toml` in the home, the default here. Units are in the names.
`docs/settings.md` lists all of them, made from these docstrings.
"""

import os
import re
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from feedback.addresses import check_database, check_origin, check_redis, sqlite_url
from feedback.errors import SettingsInvalid
from feedback.learning_settings import (
    DPOSettings,
    EvaluationSettings,
    PPOSettings,
    PreferenceSettings,
    RejectionSettings,
)
from feedback.operating_settings import AutomaticSettings, GateSettings, TracingSettings
from feedback.section import NONE, Section

DEFAULT_HOME = Path(".tandem")
PREFIX = "TANDEM_"
# Variables of that name which are no settings: of the command, of a checkout and its tests, of compose.
NO_SETTINGS = frozenset(
    {"URL", "KEY", "DEVICE", "PROMTOOL", "TEST_GPU", "LISTEN", "BASE_IMAGE", "REDIS_IMAGE", "POSTGRES_IMAGE"}
)

# What Kubernetes tells a pod of each Service, of one named tandem too.
OF_A_SERVICE = re.compile(r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")


class ServeSettings(Section):
    """The API process."""

    host: str = Field("127.0.0.1", min_length=1)
    """Address to listen on. Loopback unless told otherwise; `0.0.0.0` is all of IPv4, `::` all of IPv6 and no IPv4."""

    port: int = Field(8080, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""

    allowed_origins: list[str] = []
    """Sites whose pages may call the API from a browser, with a key in `Authorization`: `https://app.example.com`, or
    `*` for all. Signing in with a cookie stays with Tandem's own pages."""

    max_body_bytes: int = Field(1_000_000, gt=0)
    """Larger request bodies are refused with 413."""

    max_choices: int = Field(2, ge=1, le=2)
    """Largest `n` of a chat completion; 2 makes a comparison."""

    max_best_of: int = Field(16, ge=1, le=64)
    """Largest `best_of` of a chat completion: so many replies are written and the one that the preference model likes
    best is given. 1 allows none."""

    system_prompt: str = ""
    """What conversations begin with that bring no system or developer message of their own: who the assistant is, what
    it is to do and to leave. It is recorded as their first message, so that policies learn under it. Empty: nothing."""

    leave_out_tools: bool = False
    """Answer chats as if they had no `tools`, where it is left to the policy whether it calls one: for a policy that
    calls none, and clients that always offer some, as Open WebUI does. A call that a client demands is refused as ever,
    where engines cannot make one."""

    older_share: float = Field(1.0, ge=0, le=1)
    """Share of the comparisons without the challenger in which what serves meets another version that an engine holds,
    as the one before it, so that pairs stay diverse; the others show two replies of what serves."""

    reject_strange_prompts: Literal["off", "open", "closed"] = "off"
    """Answer prompts that are unlike those people judged helpfulness on with a refusal, by the gate that the serving
    version's iteration left. Where the scorer does not answer in time, `open` lets the prompt through and `closed`
    refuses it. Without a gate (the starting policy serves, or there were too few prompts) nothing is refused."""

    rejection_timeout_s: float = Field(1.0, gt=0)
    """How long a prompt waits for the gate."""

    rejection_reply: str = "I am sorry, but I would rather not answer that. Is there something else I can help with?"
    """The refusal."""

    request_timeout_s: float = Field(300.0, gt=0)
    """A reply that takes longer is ended with an error."""

    drain_timeout_s: float = Field(20.0, ge=0)
    """How long replies in flight may go on when the process is asked to end."""

    max_queued_requests: int = Field(256, gt=0)
    """Chats waiting for an engine beyond this number get 429."""

    requests_per_minute: int | None = Field(None, gt=0)
    """Chats that one key may ask for within a minute; more get 429. None: as many as it likes. Limits of a key's own
    (`tandem keys limit`) take the place of this and the next."""

    tokens_per_minute: int | None = Field(None, gt=0)
    """Tokens, read and written, that the chats of one key may take within a minute; more get 429. None: no bound."""

    sign_in_lifetime_s: float = Field(604_800.0, gt=0)
    """A browser that signed in must do so again after this time."""

    record_logprobs: bool = True
    """Record each reply token's log-probability under the policy that wrote it."""

    @field_validator("allowed_origins")
    @classmethod
    def _are_sites(cls, origins: list[str]) -> list[str]:
        return [check_origin(origin) for origin in origins]


class EngineSettings(Section):
    """The vLLM engines behind the API process."""

    slots: int = Field(2, ge=1, le=8)
    """Engines that hold a policy version each. Two let a new version load while the old one serves."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the engines run; `auto` takes a GPU where there is one."""

    dtype: str = "auto"
    """Number format of the weights in the engine; `auto` is float32 on a CPU, else the policy's own."""

    max_model_len: int | None = Field(None, gt=0)
    """Longest prompt plus reply, in tokens; by default what the policy was made for, at most 4096."""

    max_num_seqs: int = Field(64, gt=0)
    """Replies that one engine writes at the same time; an eighth as many more for keys that have hardly any there."""

    kv_cache_bytes: int = Field(134_217_728, gt=0)
    """Memory of one engine's key-value cache on a CPU."""

    gpu_memory_utilization: float = Field(0.4, gt=0, le=1)
    """Share of the GPU's memory that one engine may take."""

    start_timeout_s: float = Field(240.0, gt=0)
    """An engine that is not ready after this time is started again."""

    swap_timeout_s: float = Field(120.0, gt=0)
    """Bound on each step of loading another version into an engine."""

    hang_timeout_s: float = Field(60.0, gt=0)
    """An engine with requests in flight that yields no token for this long counts as hung and is restarted."""

    probe_tolerance: float | None = Field(None, gt=0)
    """Largest allowed difference, in nats, between the engine's and the learner's log-probability of a probe token.
    By default .005 where both compute in float32, else .25; the learner does so in the policy's own number format."""

    adapters: int = Field(0, ge=0, le=64)
    """LoRA adapters, each a policy version, that one engine holds at once. With 0 engines take none, and on a CPU they
    write faster."""

    max_adapter_rank: Literal[8, 16, 32, 64, 128, 256] = 16
    """Largest rank of such an adapter."""

    extra_args: list[str] = []
    """Further arguments for vLLM's server, as they would stand on its command line."""

    @property
    def spare_seqs(self) -> int:
        """Replies beyond `max_num_seqs`, so that who fills an engine with long ones has nobody wait for their end."""
        return self.max_num_seqs // 8


class FeedbackSettings(Section):
    """Votes, raters and datasets."""

    votes_wanted: int = Field(1, ge=1)
    """How many raters a pair wants before it is no longer handed out."""

    guidelines: str = Field("", max_length=50_000)
    """What raters are to go by beyond the question of each objective, as Markdown; the vote page shows it above the
    pair."""

    sweep_interval_s: float = Field(2.0, gt=0)
    """How often votes that were accepted but not counted are looked for."""

    sweep_age_s: float = Field(1.0, ge=0)
    """A vote uncounted for longer than this is announced to the workers again."""

    heldout_share: float = Field(0.1, ge=0, lt=1)
    """Share of the conversations whose votes are kept from training, to measure on."""

    watch_share: float = Field(0.15, ge=0, lt=1)
    """Share of the conversations whose votes train only the watch preference model, which tells when PPO
    over-optimises."""

    strength_labels: tuple[float, float, float, float] = (0.7, 0.82, 0.9, 0.95)
    """Probability that the preferred reply is the better one, for votes of strength 1 to 4."""

    unknown_strength_label: float = Field(0.9, ge=0.5, le=1)
    """The same for votes without a strength, as imported ones are."""

    rewrite_label: float = Field(0.95, ge=0.5, le=1)
    """Probability that a rewritten reply is better than the original."""

    uniform_share: float = Field(0.1, ge=0, le=1)
    """Share of the pairs handed out that is drawn uniformly from all open ones instead of by how informative they
    are."""

    disagreement_pairs: int = Field(2000, ge=0)
    """About how many open pairs an iteration asks its preference models, so that those which its ensemble disagrees
    about are handed out first; with `learner.preference.ensemble_size` 1, those it is itself unsure about."""

    repeat_share: float = Field(0.02, ge=0, le=0.5)
    """Share of the pairs handed out that their rater judged before, shown again with the sides swapped: how far they
    agree with themselves tells how steady they are. Such votes train nothing."""

    known_answer_share: float = Field(0.02, ge=0, le=0.5)
    """Share of the pairs handed out whose answer an operator made known (`tandem raters answer`): how often a rater
    finds it tells how careful they are. Such votes train nothing."""

    quarantine_outliers: bool = True
    """Set raters apart whose votes are unlike the others'; otherwise only an operator does."""

    outlier_probability: float = Field(0.001, gt=0, lt=0.5)
    """Probability with which an ordinary rater is ever taken for an outlier."""

    weigh_by_reliability: bool = True
    """Move the labels of raters who are less often right toward one half."""

    rater_names: bool = True
    """Whether a key with the role `vote` may vote for several people, by `rater`. Each counts as a rater: turn it off
    where such keys are given to people rather than to programs."""

    rater_share: float = Field(0.1, gt=0, le=1)
    """No rater weighs more than this share of the votes to learn from, of those to watch by or of the held-out ones,
    under each objective by itself, or than twice the average where raters are few; imported votes aside."""

    prompt_votes: int = Field(20, ge=1)
    """The votes on one prompt weigh no more than this many."""

    old_votes: int | None = Field(10_000, ge=0)
    """At most so many of the votes that earlier iterations could learn from are in a dataset, drawn anew for each, so
    that what an iteration costs does not grow with the age of the record: of a rater who has more than `rater_share`
    of them that share, and more where others have too few. Newer ones are all in it. Take more after importing a large
    set, which only the first iteration learns from whole. None: all of them."""

    retention_days: float | None = Field(None, gt=0)
    """Erase the texts of chats older than this that nobody has voted on. None: keep them."""

    @field_validator("strength_labels")
    @classmethod
    def _rise(cls, labels: tuple[float, ...]) -> tuple[float, ...]:
        if list(labels) != sorted(labels) or labels[0] < 0.5 or labels[-1] > 1:
            raise ValueError("the probabilities are from 0.5 to 1, none smaller than the one before")
        return labels

    @model_validator(mode="after")
    def _leaves_some_to_train_on(self) -> Self:
        if self.heldout_share + self.watch_share >= 1:
            raise ValueError("heldout_share and watch_share must leave some conversations to train on")
        return self


class LoopSettings(Section):
    """When an iteration starts by itself."""

    automatic: bool = True
    """Start iterations by count and by time; otherwise only `tandem learn` does."""

    votes_per_iteration: int | None = Field(500, gt=0)
    """Start when this many votes have been counted since the last iteration began; none: not by count."""

    interval_s: float | None = Field(604_800.0, gt=0)
    """Start when this much time has passed since the last iteration began and there are enough votes; weekly, as in
    the paper. None: not by time."""

    min_votes: int = Field(50, gt=0)
    """Below this many counted votes no iteration starts, by whichever trigger."""

    check_interval_s: float = Field(2.0, gt=0)
    """How often the scheduler looks."""

    max_attempts: int = Field(5, ge=1)
    """An iteration whose process was killed this many times, or refused by a record that answers, fails instead of
    being resumed again."""

    lease_ttl_s: float = Field(15.0, gt=1)
    """A learner that has not renewed its lease for this long counts as dead, and its iteration is resumed."""


class RetentionSettings(Section):
    """What `tandem prune` keeps, beside what is in use."""

    versions: int = Field(5, ge=1)
    """The weights of this many newest policy versions."""

    rollbacks: int = Field(10, ge=1)
    """The weights of this many versions that rollbacks, one after the other, lead back to; those of v0 stay anyway."""

    iterations: int = Field(20, ge=1)
    """The preference models and reports of this many newest iterations."""

    datasets: int = Field(5, ge=1)
    """The frozen datasets of this many newest iterations. One that went is written again from the record, the same
    bytes, when something needs it."""


class LearnerSettings(Section):
    """What an iteration trains, and how."""

    # A generator takes 64 bits, and a step of PPO has 64 seeds times a million for each of these.
    seed: int = Field(0, ge=-100_000_000_000, le=100_000_000_000)
    """Seed of the first iteration; later ones count on from it."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; `auto` takes a GPU where there is one."""

    threads: int = Field(1, ge=1)
    """Threads of PyTorch on a CPU. More than one is slower on shared cores."""

    niceness: int = Field(10, ge=0, le=19)
    """How far training gives way to whatever else the machine does, on Linux: 0 is not at all, with 10 it gets a tenth
    of what a competitor for a processor gets, with 19 a seventieth."""

    processes: int = Field(1, ge=1, le=64)
    """Processes of a machine that train together, each on a GPU of its own where there are GPUs: weights that are
    trained, gradients and optimiser states are cut into so many shares."""

    nodes: int = Field(1, ge=1, le=64)
    """Machines that train together, with `processes` on each: the first is the learner worker's, on each of the others
    runs `python -m learner.node N`."""

    rendezvous: str | None = Field(None, pattern=r"^[^\s/]+:\d{1,5}$")
    """`address:port` of the first of several machines, where the others meet it."""

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Number format of the forward passes in training. With `bf16` weights that are trained and their optimiser states
    stay in fp32, and frozen models are held in the format they came in; `auto` takes it where a GPU has it, else
    fp32."""

    gradient_checkpointing: bool = False
    """Keep only each layer's input for the backward pass and compute the rest again: a third more time, much less
    memory."""

    start_from: Literal["start", "last"] = "start"
    """Train from the starting policy each time, as in the paper, or from the version that serves."""

    checkpoint_interval_s: float = Field(5.0, ge=0)
    """At most this much training is lost when the learner is killed."""

    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = ["tensorboard"]
    """Where each step's numbers go beside the record: `tensorboard` writes into the iteration's folder; the others are
    to be installed beside Tandem, and find their server and key by their own environment."""

    preference: PreferenceSettings = PreferenceSettings()
    """Preference model."""

    trainer: Literal["ppo", "dpo"] = "ppo"
    """What trains the candidate: `ppo` against the preference model, or `dpo` on the votes themselves. The preference
    model is trained in either case: evaluation and best-of-k need it."""

    ppo: PPOSettings = PPOSettings()
    """PPO."""

    dpo: DPOSettings = DPOSettings()
    """DPO."""

    rejection: RejectionSettings = RejectionSettings()
    """Gate for strange prompts."""

    evaluation: EvaluationSettings = EvaluationSettings()
    """Evaluation of the candidate."""

    @model_validator(mode="after")
    def _machines_can_meet(self) -> Self:
        if (self.nodes > 1) != (self.rendezvous is not None):
            raise ValueError("nodes above 1 need rendezvous, the address:port where they meet; one node has none")
        return self


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
    )

    home: Path = DEFAULT_HOME
    """Folder of all state: record, policies, keys, logs. Two homes never touch each other."""

    policy: str = Field("builtin", min_length=1)
    """The starting policy: `builtin`, a folder with a Hugging Face causal language model, or a hub name."""

    database_url: str | None = None
    """Where the record is: `postgresql+psycopg://...`; by default SQLite in the home."""

    redis_url: str | None = None
    """Redis for the queue: `redis://:PASSWORD@HOST:PORT/0`, `rediss://...` with TLS (and `?ssl_ca_certs=FILE` where
    its certificate is of an authority of your own), or `redis+socket:///FILE`; by default `REDIS_URL`, else a private
    server in the home."""

    policies_url: str | None = None
    """Object storage that published weights, and what judges them, are put into beside the home, and taken from by
    machines that have not got them: `s3://bucket/prefix?region=...`, `gs://...`, `file:///...` or another URL of
    fsspec. None: the home alone."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """What is too small to be logged."""

    log_format: Literal["line", "json"] = "line"
    """How a line of the log is written: for people, or as JSON with the fields of a request by themselves."""

    log_bytes: int = Field(64 << 20, ge=1 << 16)
    """A file in `logs` that has grown larger is set aside as `NAME.log.1`, in place of the one before."""

    serve: ServeSettings = ServeSettings()
    """The API process."""

    engine: EngineSettings = EngineSettings()
    """The vLLM engines."""

    feedback: FeedbackSettings = FeedbackSettings()
    """Votes and datasets."""

    loop: LoopSettings = LoopSettings()
    """When iterations start."""

    learner: LearnerSettings = LearnerSettings()
    """What an iteration does."""

    gate: GateSettings = GateSettings()
    """What a version must show before it is promoted."""

    automatic: AutomaticSettings = AutomaticSettings()
    """Promotion by rule."""

    retention: RetentionSettings = RetentionSettings()
    """What `tandem prune` keeps."""

    tracing: TracingSettings = TracingSettings()
    """Traces."""

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @field_validator("database_url", "redis_url", "policies_url", mode="before")
    @classmethod
    def _none_is_a_word(cls, url: Any) -> Any:
        return None if url == NONE else url

    @field_validator("database_url")
    @classmethod
    def _names_a_database(cls, url: str | None) -> str | None:
        return url and check_database(url)

    @field_validator("redis_url")
    @classmethod
    def _names_a_redis(cls, url: str | None) -> str | None:
        return url and check_redis(url)

    @field_validator("policies_url")
    @classmethod
    def _names_a_storage(cls, url: str | None) -> str | None:
        if url is not None and not re.match(r"[a-z][a-z0-9+.-]*://.", url):
            raise ValueError("not a URL; a folder is file:///path")
        return url

    @model_validator(mode="after")
    def _replies_are_judged_as_long_as_they_are_written(self) -> Self:
        # Not in `learner`, which is read again as it was saved: what was made with such settings is still served.
        longest = self.learner.preference.max_reply_tokens
        by_ppo = self.learner.trainer == "ppo" or self.learner.evaluation.frontier == "trained"
        for name in ("ppo", "evaluation") if by_ppo else ("evaluation",):
            if getattr(self.learner, name).max_new_tokens > longest:
                raise ValueError(
                    f"learner.{name}.max_new_tokens is above learner.preference.max_reply_tokens ({longest}): "
                    "the preference model would score replies longer than any it learnt from; raise the latter"
                )
        return self

    @property
    def record_url(self) -> str:
        """The database's URL, the default filled in."""
        return self.database_url or sqlite_url(self.home / "record.db")

    @property
    def has_no_record(self) -> bool:
        """Whether nothing has been recorded yet; of a database that was named nobody is asked."""
        return self.database_url is None and not (self.home / "record.db").exists()

    @property
    def broker_url(self) -> str:
        """The URL of Redis, the default filled in."""
        return self.given_redis or f"redis+socket://{quote(str(self.run_dir / 'redis.sock'))}"

    @property
    def given_redis(self) -> str | None:
        """The URL of a Redis that is not the home's own."""
        return self.redis_url or os.environ.get("REDIS_URL") or None

    @property
    def policies_dir(self) -> Path:
        return self.home / "policies"

    @property
    def run_dir(self) -> Path:
        return self.home / "run"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        home = init_settings().get("home") or os.environ.get("TANDEM_HOME") or DEFAULT_HOME
        # Files later in this list are the stronger ones.
        files = [Path(home).expanduser() / "tandem.toml", Path("tandem.toml")]
        return init_settings, env_settings, TomlFiles(settings_cls, toml_file=files, deep_merge=True)


class TomlFiles(TomlConfigSettingsSource):
    """`tandem.toml`, here and in the home."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        try:
            return super()._read_file(file_path)
        except ValueError as error:
            raise SettingsInvalid(f"{file_path} cannot be read: {error}") from error


def load_settings(**overrides: Any) -> Settings:
    """Read the settings of this process; `overrides` are what its command line says.

    Raises SettingsInvalid, naming each value that cannot be used.
    """
    unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and not _is_known(name))
    if unknown:
        raise SettingsInvalid(f"{', '.join(unknown)}: there is no such setting (see docs/settings.md)")
    try:
        settings = Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'settings'}: {_said(problem)}"
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise SettingsInvalid(f"{wrong} (see docs/settings.md)") from error
    except SettingsError as error:
        (field,) = re.findall(r'"(\w+)"', str(error))[:1]
        name = f"{PREFIX}{field.upper()}"
        raise SettingsInvalid(f"{name}__...: in the environment lists and tables stand as JSON") from error
    except OSError as error:
        raise SettingsInvalid(f"{error.filename} cannot be read: {error.strerror}") from error
    try:
        check_redis(settings.broker_url)
    except ValueError as error:
        raise SettingsInvalid(f"REDIS_URL: {error}") from error
    return settings


def _is_known(variable: str) -> bool:
    """Whether there is such a section or setting; what is in a section is told by itself."""
    name = variable.upper().removeprefix(PREFIX)
    if "KUBERNETES_SERVICE_HOST" in os.environ and OF_A_SERVICE.fullmatch(name):
        return True
    return name in NO_SETTINGS or name.partition("__")[0].lower() in Settings.model_fields


def _said(problem: ErrorDetails) -> str:
    if problem["type"] == "extra_forbidden":
        return "there is no such setting"
    return problem["msg"].removeprefix("Value error, ")
