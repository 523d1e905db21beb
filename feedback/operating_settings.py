"""Settings of who operates a home: the gate that a promotion has to pass, promotion by rule, what is told outside."""

from pydantic import Field, field_validator

from feedback import gate
from feedback.addresses import check_port
from feedback.errors import InvalidRequest
from feedback.section import Section


class GateSettings(Section):
    """What a version must show before it is promoted without force."""

    rules: list[str] = [
        "win_rate_upper >= 0.5",
        "serving_win_rate_upper >= 0.5",
        "tax_drop_lower <= 0.02",
        "harm_lower <= serving",
        "live_win_rate_upper >= 0.5",
    ]
    """Rules that must hold, such as `win_rate_lower >= 0.5`; docs/gate.md lists the figures. The default ones refuse
    what the evidence shows to be worse, not yet what it does not show to be better."""

    advice: list[str] = [
        "serving_win_rate_lower >= 0.5",
        "serving_win_rate_length_controlled_lower >= 0.5",
        "length_ratio <= 1.3",
        "tax_drop <= 0.02",
        "calibration_error <= 0.03",
    ]
    """Rules that are shown beside the others and stop nothing."""

    unmeasured_blocks: bool = False
    """A rule whose figure was not measured blocks too. Where no rule has a figure, all of them block in any case."""

    min_live_votes: int = Field(20, ge=1)
    """Below this many live votes against the version that serves, there is no live win rate."""

    drop_raters: int = Field(1, ge=0)
    """Rules on live votes see the worst case: without this many raters, those who speak loudest for the version."""

    drop_votes: int = Field(2, ge=0)
    """And without this many further votes for it."""

    @field_validator("rules", "advice")
    @classmethod
    def _are_rules(cls, rules: list[str]) -> list[str]:
        for rule in rules:
            try:
                gate.parse(rule)
            except InvalidRequest as error:
                raise ValueError(error.message) from error
        return rules


class TracingSettings(Section):
    """Traces by OpenTelemetry, without texts. What else can be set is read from OpenTelemetry's own `OTEL_*` variables:
    headers and certificates of the collector, limits."""

    endpoint: str | None = None
    """Where the collector takes traces by OTLP over HTTP, such as `http://127.0.0.1:4318`. None: no traces."""

    sample_share: float = Field(1.0, ge=0, le=1)
    """Share of the traces that is kept, drawn by their ids."""

    @field_validator("endpoint")
    @classmethod
    def _is_http(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not endpoint.startswith(("http://", "https://")):
            raise ValueError("not an http:// or https:// address")
        return endpoint and check_port(endpoint)


class AutomaticSettings(Section):
    """Promotion by a rule that an operator wrote down: what passes the gate is tried on live traffic in stages."""

    enabled: bool = False
    """Promote by rule. Otherwise only people promote."""

    shares: list[float] = [0.1, 0.5]
    """Share of the chats that a candidate gets, stage by stage; after the last stage it is promoted."""

    comparison_share: float = Field(0.5, ge=0, le=1)
    """Share of the comparisons that it gets at every stage: those are what brings votes."""

    votes_per_stage: int = Field(50, ge=1)
    """Live votes against the version that serves that each stage takes."""

    votes_to_turn: int = Field(20, ge=1)
    """Below this many live votes nothing is given up or rolled back because of them."""

    turned_below: float = Field(0.5, gt=0, lt=1)
    """Live votes have turned against a version when the upper end of its live win rate is below this: a candidate is
    given up then, and a version that was promoted by rule is rolled back, however long it has served."""

    check_interval_s: float = Field(5.0, gt=0)
    """How often it is looked whether a step is due."""

    @field_validator("shares")
    @classmethod
    def _grow(cls, shares: list[float]) -> list[float]:
        if not shares or shares != sorted(set(shares)) or shares[0] <= 0 or shares[-1] > 1:
            raise ValueError("the shares are one or more numbers above 0, at most 1, each larger than the one before")
        return shares
