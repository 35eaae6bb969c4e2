"""The cleaning rules: why a trip is not kept, in words, and when that applies.

A rule is a row of `RULES`. The first that applies names the reason, so that reasons add up to the rejected rows. Which
rows a rule hits is in `cleaning`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class CleaningRules:
    """Which rules apply. The defaults are the original pipeline's rule: keep a trip with at least one passenger."""

    reject_zero_passengers: bool = True
    reject_unknown_passengers: bool = True
    reject_negative_total: bool = False
    reject_dropoff_before_pickup: bool = False
    max_trip_distance: float | None = None


@dataclass(frozen=True)
class Rule:
    """A reason to reject a trip, and whether the rule is on."""

    reason: str
    description: str
    applies: Callable[[CleaningRules], bool]


RULES = (
    Rule("pickup_missing", "No pickup time, so the trip belongs to no month.", lambda _: True),
    Rule(
        "pickup_outside_month",
        "Picked up outside the file's month: meters with a wrong clock, and a few trips that the "
        "publisher filed a month off. Always on: every sink keeps a month by pickup time.",
        lambda _: True,
    ),
    Rule("zero_passengers", "The driver entered no passenger.", lambda rules: rules.reject_zero_passengers),
    Rule(
        "unknown_passengers",
        "The provider sent no passenger count (nor rate code or flag, as a rule).",
        lambda rules: rules.reject_unknown_passengers,
    ),
    Rule(
        "negative_total",
        "A negative amount was charged: refunds and corrections.",
        lambda rules: rules.reject_negative_total,
    ),
    Rule(
        "dropoff_before_pickup",
        "The trip ended before it began.",
        lambda rules: rules.reject_dropoff_before_pickup,
    ),
    Rule(
        "distance_above_maximum",
        "Longer than `max_trip_distance` miles.",
        lambda rules: rules.max_trip_distance is not None,
    ),
)
