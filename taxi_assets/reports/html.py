"""The month's report as one HTML page, from the template `month_report.html.j2`.

The page is self-contained: no script, no font, no request. Its charts are `charts`, its tables `bars`, its figures
`figures`. The same profile always gives the same page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taxi_assets.core.manifest import Manifest
from taxi_assets.reports import bars
from taxi_assets.reports.charts import histogram, peak, trips_per_day, week
from taxi_assets.reports.figures import MonthProfile
from taxi_assets.reports.words import dollars, environment, miles, number

ACCENTS = {"yellow": "#f7b500", "green": "#78be20"}
"""The color of the cabs."""
HEADINGS = {"fhv": "For-hire vehicles", "fhvhv": "High-volume for-hire vehicles"}


@dataclass(frozen=True)
class SinkState:
    """A sink compared with the clean month: its name, the rows it has (None: it has no such month), what differs."""

    name: str
    rows: int | None
    differences: tuple[str, ...] = ()
    where: str = ""

    @classmethod
    def compare(cls, name: str, clean: Manifest, actual: Manifest | None, where: str = "") -> SinkState:
        """Describe what `Manifest.differences` finds; `actual` is what the sink measured, None without the month."""
        if actual is None:
            return cls(name, None, ("has no such month",), where)
        sums = {
            name: f"sum of {name} {actual.sums.get(name, 0):,.2f}, not {total:,.2f}"
            for name, total in clean.sums.items()
        }
        differences = {
            **sums,
            "rows": f"{number(actual.rows)} rows, not {number(clean.rows)}",
            "first": f"first pickup {actual.first or 'none'}, not {clean.first or 'none'}",
            "last": f"last pickup {actual.last or 'none'}, not {clean.last or 'none'}",
        }
        return cls(name, actual.rows, tuple(differences[each] for each in clean.differences(actual)), where)


def render(profile: MonthProfile, *, earlier: Sequence[MonthProfile] = (), sinks: Sequence[SinkState] = ()) -> str:
    """Return the report as HTML, well-formed as XML too; without `sinks`, their section is left out.

    `earlier` are profiles to compare it with, in any order; those of another kind or month of the year are left out.
    """
    others = [q for q in earlier if q.kind == profile.kind and q.month[5:] == profile.month[5:]]
    before = [q for q in others if q.month < profile.month and q.totals.trips]
    heading = HEADINGS.get(profile.kind) or f"{profile.kind.capitalize()} taxis"
    template = environment().get_template("month_report.html.j2")
    return template.render(
        p=profile,
        title=f"{heading}, {profile.start:%B %Y}",
        accent=ACCENTS.get(profile.kind, ACCENTS["yellow"]),
        days=trips_per_day(profile),
        week=week(profile),
        peak=peak(profile),
        distances=profile.distances
        and histogram("distances", "Distances", profile.distances, "distance in miles", miles, 5),
        fares=profile.fares and histogram("fares", "Fares", profile.fares, "fare in US dollars", dollars, 20),
        miles=miles,
        dollars=dollars,
        zones=bars.zones(profile),
        payments=bars.payments(profile),
        companies=bars.companies(profile),
        requests=bars.requests(profile),
        years=bars.years(profile, others),
        before=max(before, key=lambda q: q.month, default=None),
        reasons=bars.reasons(profile),
        sinks=sinks,
        agree=sum(not sink.differences for sink in sinks),
    )
