"""The month's report as one HTML page: its texts and tables, in order.

The page is self-contained: no script, no font, no request. Its markup is `month_report.html.j2`, its pictures
are `charts`, its tables `bars`, its figures `figures`. The same profile always gives the same page.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taxi_assets.core.manifest import Manifest
from taxi_assets.reports.bars import Bar, payments, reasons, requests, zones
from taxi_assets.reports.charts import busiest_hour, environment, histogram, trips_per_day, week, weekday_averages
from taxi_assets.reports.figures import Histogram, MonthProfile, month_of, share
from taxi_assets.reports.words import (
    NONE,
    WEEKDAYS,
    average,
    day_name,
    dollars,
    hour,
    listed,
    miles,
    number,
    percent,
    plural,
)

ACCENTS = {"yellow": "#f7b500", "green": "#78be20"}
"""The color of the cabs."""


@dataclass(frozen=True)
class SinkState:
    """A sink compared with the clean month: its name, the rows it has (None: it has no such month), what differs."""

    name: str
    rows: int | None
    differences: tuple[str, ...] = ()
    where: str = ""

    @classmethod
    def compare(cls, name: str, clean: Manifest, found: Manifest | None, where: str = "") -> SinkState:
        """What `Manifest.differences` finds, in words."""
        if found is None:
            return cls(name, None, ("has no such month",), where)
        words = {
            "rows": f"{number(found.rows)} rows, not {number(clean.rows)}",
            "first": f"first pickup {found.first or 'none'}, not {clean.first or 'none'}",
            "last": f"last pickup {found.last or 'none'}, not {clean.last or 'none'}",
            "total_amount": f"{dollars(found.sums.get('total_amount', 0))} in all, not "
            f"{dollars(clean.sums.get('total_amount', 0))}",
        }
        return cls(name, found.rows, tuple(words[each] for each in clean.differences(found)), where)


def render(profile: MonthProfile, *, earlier: Sequence[MonthProfile] = (), sinks: Sequence[SinkState] = ()) -> str:
    """The report as HTML, well-formed as XML too.

    Args:
        profile: the month.
        earlier: profiles to compare it with, in any order; those of another kind or month of the year are left out.
        sinks: the comparison of each sink with the clean month; if empty, the section is left out.
    """
    month = month_of(profile)
    return (
        environment()
        .get_template("month_report.html.j2")
        .render(
            p=profile,
            title=f"{profile.kind.capitalize()} taxis, {month.start:%B %Y}",
            month_name=f"{month.start:%B}",
            accent=ACCENTS.get(profile.kind, ACCENTS["yellow"]),
            figures=_figures(profile),
            days=trips_per_day(profile),
            days_words=_days_words(profile),
            days_note=_days_note(profile),
            week=week(profile),
            week_words=_week_words(profile),
            week_most=average(max(map(max, weekday_averages(profile)))),
            distances=histogram("distances", "Distances", profile.distances, "distance in miles", miles, 5),
            distances_words=_median_words(profile.distances, "trips are", miles, "or shorter"),
            distances_note=_tails(profile.distances, miles),
            fares=histogram("fares", "Fares", profile.fares, "fare in US dollars", dollars, 20),
            fares_words=_median_words(profile.fares, "fares are", dollars, "or less"),
            fares_note=_tails(profile.fares, dollars),
            zones=zones(profile),
            zones_note=_zones_note(profile),
            payments=payments(profile),
            requests=requests(profile),
            years=_years(profile, earlier),
            years_words=_years_words(profile, earlier),
            reasons=reasons(profile),
            sinks=sinks,
            agree=sum(not sink.differences for sink in sinks),
        )
    )


def _figures(p: MonthProfile) -> list[tuple[str, str, str]]:
    """Name, total, and average per trip."""
    totals = p.totals

    def each(name: str, sum_: float, whole: Callable[[float], str], part: Callable[[float], str]):
        return name, whole(sum_), f"{part(sum_ / totals.trips)} a trip" if totals.trips else ""

    def money(name: str, sum_: float):
        return each(name, sum_, lambda value: dollars(value, 0), lambda value: dollars(value, 2))

    return [
        ("Trips kept", number(totals.trips), f"{average(totals.trips / len(p.days))} a day"),
        each("Passengers", totals.passengers, number, lambda value: f"{value:.2f}"),
        each("Miles", totals.miles, number, lambda value: f"{value:,.2f}"),
        money("Fares", totals.fares),
        money("Tips, by card", totals.tips),
        money("Revenue", totals.revenue),
    ]


def _days_words(p: MonthProfile) -> str:
    if not p.totals.trips:
        return "No trip of this month was kept."
    most, least = max(p.days, key=lambda day: day.trips), min(p.days, key=lambda day: day.trips)
    busiest, quietest = (day_name(dt.date.fromisoformat(day.date)) for day in (most, least))
    return (
        f"{busiest} was the busiest day with {plural(most.trips, 'trip')}, "
        f"{quietest} the quietest with {number(least.trips)}."
    )


def _days_note(p: MonthProfile) -> str:
    absent = [
        f"{plural(rows, word)} {why}"
        for rows, word, why in (
            (p.rejected_outside, "rejected row", "picked up outside the month"),
            (p.rejected_undated, "rejected row", "without a readable pickup time"),
            (p.undated, "trip", "without a day of the month"),
        )
        if rows
    ]
    return f"On no day of this chart: {listed(absent)}." if absent else "Every row is on a day of this chart."


def _week_words(p: MonthProfile) -> str:
    averages = weekday_averages(p)
    weekday, h = busiest_hour(averages)
    if not averages[weekday][h]:
        return "No trip of this month was kept."
    return (
        f"The busiest hour begins on {WEEKDAYS[weekday]}s at {hour(h)}, with {average(averages[weekday][h])} trips on "
        "average."
    )


def _median_words(counts: Histogram, words: str, unit: Callable[[float], str], less: str) -> str:
    return f"Half of the {words} {unit(counts.median)} {less}." if counts.median is not None else ""


def _tails(counts: Histogram, unit: Callable[[float], str]) -> str:
    parts = [
        f"{plural(rows, 'trip')} {words}"
        for rows, words in (
            (counts.above, f"of {unit(counts.end)} and more in the last bar"),
            (counts.below, f"below {unit(0)} in the first bar"),
            (counts.zero, f"of exactly {unit(0)}"),
            (counts.unknown, "without a value, not shown"),
        )
        if rows
    ]
    return f"With {listed(parts)}." if parts else ""


def _zones_note(p: MonthProfile) -> str:
    notes = []
    if not p.places.top and p.places.with_coordinates:
        notes.append(
            "This month was published with coordinates instead of taxi zones, so there are no zones to rank. MonthFile "
            f"with coordinates: {number(p.places.with_coordinates)}."
        )
    elif not p.places.top:
        notes.append("No trip of this month has a pickup zone.")
    elif p.places.without_zone:
        notes.append(f"{plural(p.places.without_zone, 'trip')} without a zone.")
    if p.places.top and not p.places.named:
        notes.append(
            "The zone lookup was not loaded, so zones are shown by number: materialize taxi_zones (with TAXI_SOURCE=tlc if "
            "your source has none), then month_report again."
        )
    return " ".join(notes)


def _same_months(p: MonthProfile, others: Sequence[MonthProfile]) -> list[MonthProfile]:
    """The month and the same month of other years, in order of time."""
    same = {q.month: q for q in others if q.kind == p.kind and q.month[5:] == p.month[5:]} | {p.month: p}
    return [same[month] for month in sorted(same)]


def _years(p: MonthProfile, others: Sequence[MonthProfile]) -> list[Bar]:
    profiles = _same_months(p, others)
    most = max(q.totals.trips for q in profiles)
    return [
        Bar(
            q.month[:4],
            "generated sample" if q.origin.generated else "",
            (
                number(q.totals.trips),
                percent(q.rejected_share),
                miles(q.distances.median) if q.distances.median is not None else NONE,
                dollars(q.fares.median) if q.fares.median is not None else NONE,
                dollars(q.totals.revenue, 0),
            ),
            share(q.totals.trips, most),
            "this" if q is p else "other",
        )
        for q in profiles
        if len(profiles) > 1
    ]


def _years_words(p: MonthProfile, others: Sequence[MonthProfile]) -> str:
    before = [q for q in _same_months(p, others) if q.month < p.month and q.totals.trips]
    if not before:
        return ""
    last = before[-1]
    then = f"{month_of(last).start:%B %Y}" + (" (generated)" if last.origin.generated else "")
    kept, rows = _change(p.totals.trips, last.totals.trips), _change(p.raw_rows, last.raw_rows)
    return f"Against {then}: {kept} trips kept, {rows} rows."


def _change(now: int, then: int) -> str:
    change = share(now - then, then)
    return f"{percent(abs(change))} {'more' if change > 0 else 'fewer'}" if abs(change) >= 0.0005 else "as many"
