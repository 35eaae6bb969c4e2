"""The rows of the report's tables with bars: zones, payments, request sources, reasons for a rejection, other years."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from taxi_assets.datasets.codes import COMPANIES, PAYMENTS
from taxi_assets.datasets.rules import RULES
from taxi_assets.publisher.rows import REASONS
from taxi_assets.reports.daily_summary import NOT_RECORDED
from taxi_assets.reports.figures import MonthProfile, share
from taxi_assets.reports.words import NONE, dollars, miles, percent

REASON_WORDS = {rule.reason: rule.description.replace("`", "") for rule in RULES} | REASONS
"""The description of every reason for a rejection."""

REQUEST_SOURCES = {
    **{code: (COMPANIES[code], code) for code in ("HV0003", "HV0005")},
    "A": ("A (not documented)", ""),
    "": ("Street hail", ""),
}
"""Who passed a trip to the taxi, and the code (license numbers of the TLC's high-volume dictionary)."""


@dataclass(frozen=True)
class Bar:
    """A row of a table: a name, a count and the bar that shows it; `note` follows the name, `text` is below.

    `cells` follow the count; without them, the template writes the count's share there.
    """

    name: str
    count: int
    note: str = ""
    cells: tuple[str, ...] = ()
    css: str = ""
    text: str = ""


def zones(p: MonthProfile) -> list[Bar]:
    """Return the busiest pickup zones."""
    unnamed = {264: "Unknown zone", 265: "Outside of NYC"}
    return [
        Bar(zone.name or unnamed.get(zone.id, f"Zone {zone.id}"), zone.trips, zone.borough or "")
        for zone in p.places.top
    ]


def payments(p: MonthProfile) -> list[Bar]:
    """Return the trips kept by payment type."""
    names = {str(code): name for code, name in PAYMENTS.items()} | {"": NOT_RECORDED}
    return [Bar(names.get(code, f"Code {code}"), trips) for code, trips in p.payments.items()]


def companies(p: MonthProfile) -> list[Bar]:
    """Return the trips kept of the largest companies, or bases where no company is published."""
    return [
        Bar(COMPANIES.get(code, code or "No base"), trips, code if code in COMPANIES else "")
        for code, trips in p.companies.items()
    ]


def requests(p: MonthProfile) -> list[Bar]:
    """Return the trips by request source, kept or rejected, with the share that was kept."""
    rows = Counter(p.request_sources) + Counter(p.rejected_request_sources)
    return [
        Bar(name, trips, note, (percent(share(p.request_sources.get(code, 0), trips)),))
        for code, trips in rows.most_common()
        for name, note in [REQUEST_SOURCES.get(code, (f"Code {code}", ""))]
    ]


def reasons(p: MonthProfile) -> list[Bar]:
    """Return the rejected rows by reason."""
    other = "A reason of another release."
    return [
        Bar(reason.replace("_", " ").capitalize(), rows, css="bad", text=REASON_WORDS.get(reason, other))
        for reason, rows in p.reasons.items()
    ]


def years(p: MonthProfile, others: Sequence[MonthProfile]) -> list[Bar]:
    """Return the trips kept in the month and in the others, with the rejected share, the medians and the revenue."""
    return [
        Bar(
            q.month[:4],
            q.totals.trips,
            "generated sample" if q.origin.generated else "",
            (
                percent(q.rejected_share),
                miles(q.distances.median) if q.distances and q.distances.median is not None else NONE,
                dollars(q.fares.median) if q.fares and q.fares.median is not None else NONE,
                dollars(q.totals.revenue, 0) if q.totals.revenue is not None else NONE,
            ),
            "this" if q is p else "other",
        )
        for q in sorted([p, *others], key=lambda q: q.month)
        if others
    ]
