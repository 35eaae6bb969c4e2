"""The cleaning rules: their settings, and why a trip is not kept, in words.

A rule is a row of `RULES`. The first that applies names the reason, so that reasons add up to the rejected rows. Which
rows a rule hits is in `cleaning`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, Field

from taxi_assets.datasets.schema import TaxiKind


class CleaningRules(BaseModel, frozen=True, extra="forbid"):
    """The settings of the rules. The defaults are the original pipeline's rule: keep a trip with at least one passenger.

    A field is a setting (`reject_zero_passengers` is TAXI_REJECT_ZERO_PASSENGERS), which is the default of the field of the
    same name in the run config of `clean_trips`. False or None: the rule is off.
    """

    reject_zero_passengers: bool = Field(True, description="Reject trips whose driver entered no passenger.")
    reject_unknown_passengers: bool = Field(
        True, description="Reject trips without a passenger count: since 2025 mostly trips dispatched by an app."
    )
    reject_negative_total: bool = Field(False, description="Reject refunds and corrections (total below zero).")
    reject_dropoff_before_pickup: bool = Field(False, description="Reject trips that end before they begin.")
    max_trip_distance: float | None = Field(None, gt=0, description="Reject trips longer than this, in miles.")
    reject_negative_fare: bool = Field(False, description="Reject trips with a fare below zero, tolls and taxes apart.")
    max_trip_hours: float | None = Field(None, gt=0, description="Reject trips that take longer than this, in hours.")


@dataclass(frozen=True)
class Rule:
    """A reason to reject a trip, and the field of `CleaningRules` that switches the rule on; None: always on.

    `measure` is the field of `Measures` that the rule looks at; the rule is off for datasets without it.
    """

    reason: str
    description: str
    setting: str | None = None
    measure: str | None = None

    def concerns(self, kind: TaxiKind) -> bool:
        """Whether the dataset has what the rule looks at."""
        return self.measure is None or bool(getattr(kind.measures, self.measure))

    def applies(self, rules: CleaningRules, kind: TaxiKind) -> bool:
        """Whether the rule is on."""
        on = self.setting is None or getattr(rules, self.setting) not in (False, None)
        return on and self.concerns(kind)

    @property
    def variable(self) -> str | None:
        """The environment variable of the setting."""
        return f"TAXI_{self.setting.upper()}" if self.setting else None


RULES = (
    Rule("pickup_missing", "No pickup time, so the trip belongs to no month."),
    Rule(
        "pickup_outside_month",
        "Picked up outside the file's month: meters with a wrong clock, and a few trips that the "
        "publisher filed a month off. Always on: every sink keeps a month by pickup time.",
    ),
    Rule("zero_passengers", "The driver entered no passenger.", "reject_zero_passengers", "passengers"),
    Rule(
        "unknown_passengers",
        "The provider sent no passenger count (nor rate code or flag, as a rule).",
        "reject_unknown_passengers",
        "passengers",
    ),
    Rule("negative_total", "A negative amount was charged: refunds and corrections.", "reject_negative_total", "total"),
    Rule("dropoff_before_pickup", "The trip ended before it began.", "reject_dropoff_before_pickup"),
    Rule("distance_above_maximum", "Longer than `max_trip_distance` miles.", "max_trip_distance", "distance"),
    Rule("negative_fare", "The fare is negative.", "reject_negative_fare", "fare"),
    Rule("duration_above_maximum", "Took longer than `max_trip_hours` hours.", "max_trip_hours"),
)
