"""The rows of the report's tables with bars: zones, payments, request sources, reasons for a rejection."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from taxi_assets.datasets.rules import RULES
from taxi_assets.publisher.rows import REASONS
from taxi_assets.reports.daily_summary import NOT_RECORDED, PAYMENTS
from taxi_assets.reports.figures import MonthProfile, Zone, share
from taxi_assets.reports.words import number, percent

REASON_WORDS = {rule.reason: rule.description.replace("`", "") for rule in RULES} | REASONS
"""Every reason for a rejection, in words."""

REQUEST_SOURCES = {
    "HV0003": ("Uber", "HV0003"),
    "HV0005": ("Lyft", "HV0005"),
    "A": ("A (not documented)", ""),
    "": ("Street hail", ""),
}
"""Who passed a trip to the taxi, and the code (license numbers of the TLC's high-volume dictionary)."""


@dataclass(frozen=True)
class Bar:
    """A row of a table with a bar under it, `part` (0 to 1) long; `note` follows the name, `text` is a line below."""

    name: str
    note: str
    cells: tuple[str, ...]
    part: float
    css: str = ""
    text: str = ""


def _zone_name(zone: Zone) -> str:
    return zone.name or {264: "Unknown zone", 265: "Outside of NYC"}.get(zone.id, f"Zone {zone.id}")


def zones(p: MonthProfile) -> list[Bar]:
    """The busiest pickup zones."""
    most = max((zone.trips for zone in p.places.top), default=0)
    return [
        Bar(
            _zone_name(zone),
            zone.borough or "",
            (number(zone.trips), percent(share(zone.trips, p.totals.trips))),
            share(zone.trips, most),
        )
        for zone in p.places.top
    ]


def payments(p: MonthProfile) -> list[Bar]:
    """Trips kept by payment type."""
    most = max(p.payments.values(), default=0)
    return [
        Bar(
            PAYMENTS.get(int(code), f"Code {code}") if code else NOT_RECORDED,
            "",
            (number(trips), percent(share(trips, p.totals.trips))),
            share(trips, most),
        )
        for code, trips in p.payments.items()
    ]


def requests(p: MonthProfile) -> list[Bar]:
    """Trips by request source, kept or rejected, with the share that was kept."""
    rows = Counter(p.request_sources) + Counter(p.rejected_request_sources)
    most = max(rows.values(), default=0)
    return [
        Bar(
            *REQUEST_SOURCES.get(code, (f"Code {code}", "")),
            (number(trips), percent(share(p.request_sources.get(code, 0), trips))),
            share(trips, most),
        )
        for code, trips in rows.most_common()
    ]


def reasons(p: MonthProfile) -> list[Bar]:
    """Rejected rows by reason."""
    most = max(p.reasons.values(), default=0)
    return [
        Bar(
            reason.replace("_", " ").capitalize(),
            "",
            (number(rows), percent(share(rows, p.raw_rows), 2)),
            share(rows, most),
            "bad",
            REASON_WORDS.get(reason, "A reason of another release."),
        )
        for reason, rows in p.reasons.items()
    ]
