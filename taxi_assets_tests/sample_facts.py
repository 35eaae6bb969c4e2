"""What a generated month contains, and what the reader and the default rules must find in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.publisher.sample import count_defects

REJECTED_AS = {
    "unknown_passengers": "unknown_passengers",
    "zero_passengers": "zero_passengers",
    "day_before": "pickup_outside_month",
    "day_after": "pickup_outside_month",
    "years_off": "pickup_outside_month",
    "cut_line": "unreadable_field_count",
    "surplus_fields": "unreadable_field_count",
    "word_in_number": "unreadable_value",
    "impossible_date": "unreadable_value",
}
"""The reason with which the rows of a defect are rejected; rows of other defects are kept."""


@dataclass(frozen=True)
class SampleFacts:
    """What a generated file contains: its data `lines`, how many have each defect, and how many the reader and the
    default rules reject for each of the `reasons` (reasons without a row are omitted)."""

    lines: int
    defects: dict[str, int]
    reasons: dict[str, int]

    @property
    def expected_rejected(self) -> int:
        """Rows that are rejected by default, unreadable lines included."""
        return sum(self.reasons.values())

    @property
    def expected_kept(self) -> int:
        """Rows that the default rules keep."""
        return self.lines - self.expected_rejected


def expected(kind: TaxiKind, month: Month, rows: int) -> SampleFacts:
    """Return what `write_sample` writes for these arguments; it is the same for every variant."""
    defects, reasons = count_defects(kind, rows), Counter()
    for name, reason in REJECTED_AS.items():
        reasons[reason] += defects[name]
    return SampleFacts(rows, defects, dict(+reasons))
