"""Settings of decisions: the gate that a promotion has to pass, and promotion by rule."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from feedback import gate
from feedback.errors import InvalidRequest


class OperatingSettings(BaseModel):
    """Frozen, strict about names, and every field described by the docstring below it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class GateSettings(OperatingSettings):
    """What a version must show before it is promoted without force."""

    rules: list[str] = [
        "win_rate_upper >= 0.5",
        "tax_drop_lower <= 0.02",
        "harm_lower <= serving",
        "live_win_rate_upper >= 0.5",
    ]
    """Rules that must hold, such as `win_rate_lower >= 0.5`; docs/gate.md lists the figures. The default ones refuse
    what the evidence shows to be worse, not yet what it does not show to be better."""

    advice: list[str] = [
        "win_rate_lower >= 0.5",
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
