"""The geometry of the report's charts: positions and labels of bars, lines and texts, and the table behind each chart.

The template `chart.svg.j2` has the markup. Horizontal positions are percent of the plot's width, vertical ones are
pixels, so that a chart fits any width while its text keeps its size; narrow screens hide texts of class `wide`.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from taxi_assets.reports.figures import Day, Histogram, MonthProfile, month_of, share
from taxi_assets.reports.words import WEEKDAYS, average, axis_shares, compact, day_name, hour, number, percent, plural

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class Rect:
    """A bar, band or cell; `title` is shown on hover, `strength` (0 to 1) shades it."""

    x: float
    y: float
    width: float
    height: float
    css: str
    title: str = ""
    strength: float | None = None


@dataclass(frozen=True)
class Rule:
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    css: str = "grid"


@dataclass(frozen=True)
class Word:
    """A label; `dx` moves it by pixels."""

    x: float
    y: float
    text: str
    css: str = ""
    dx: float = 0


@dataclass
class Drawing:
    """A picture: its alternative text (`title`, `description`), its marks, and the same as a table."""

    id: str
    title: str
    description: str
    height: int
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    rects: list[Rect] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)


def ticks(most: float, count: int = 4, *, whole: bool = True) -> list[float]:
    """About `count` round steps from 0 up to the first that reaches `most`: 1, 2, 2.5 or 5 times a power of ten.

    `whole` steps are at least 1; without data, the axis ends at 1, or at 1%.
    """
    most = max(most, 1.0 if whole else 0.0) or 0.01
    power = 10.0 ** math.floor(math.log10(most / count))
    steps = (1, 2, 5, 10) if whole and power < 10 else (1, 2, 2.5, 5, 10)
    step = next(factor * power for factor in steps if factor * power >= most / count * 0.999)
    step = max(step, 1.0) if whole else step
    return [i * step for i in range(math.ceil(most / step - 1e-9) + 1)]


def trips_per_day(profile: MonthProfile) -> Drawing:
    """Rows by day of pickup, kept and rejected, and below them the rejected share."""
    top, bottom, share_top, share_bottom = 12, 222, 292, 362
    dates = [dt.date.fromisoformat(day.date) for day in profile.days]
    drawing = Drawing(
        "days",
        "Trips per day",
        _days_in_words(profile),
        share_bottom + 8,
        ("Day", "Kept", "Rejected", "Rejected share"),
        [
            (f"{date:%a} {date.day}", number(day.trips), number(day.rejected), percent(day.share))
            for date, day in zip(dates, profile.days, strict=True)
        ],
    )
    slot = 100 / len(dates)
    for i, date in enumerate(dates):
        if date.weekday() >= 5:
            drawing.rects.append(Rect(i * slot, top, slot, bottom - top, "band"))
            drawing.rects.append(Rect(i * slot, share_top, slot, share_bottom - share_top, "band"))
    scale = _axis(drawing, ticks(max(day.trips + day.rejected for day in profile.days)), top, bottom, compact)
    shares = ticks(max(day.share for day in profile.days), 3, whole=False)
    share_scale = _axis(drawing, shares, share_top, share_bottom, axis_shares(shares))
    drawing.words.append(Word(0, share_top - 12, "Rejected, share of rows", "start name"))
    for i, (date, day) in enumerate(zip(dates, profile.days, strict=True)):
        x, width = (i + 0.14) * slot, 0.72 * slot
        kept, bad = scale * day.trips, scale * day.rejected
        drawing.rects += [
            Rect(x, bottom - kept, width, kept, "kept"),
            Rect(x, bottom - kept - bad, width, bad, "rejected"),
            Rect(x, share_bottom - share_scale * day.share, width, share_scale * day.share, "rejected"),
            Rect(
                i * slot, 0, slot, drawing.height, "hit",
                f"{day_name(date)}: {number(day.trips)} kept, {number(day.rejected)} rejected ({percent(day.share)})",
            ),
        ]  # fmt: skip
        css = "middle" if (date.day - 1) % 7 == 0 else "middle wide"
        drawing.words.append(Word((i + 0.5) * slot, bottom + 18, str(date.day), css))
    drawing.words.append(Word(100, bottom + 36, f"day of {month_of(profile).start:%B}", "end name"))
    return drawing


def week(profile: MonthProfile) -> Drawing:
    """Trips by hour of pickup and weekday, on an average such day of the month."""
    averages = weekday_averages(profile)
    most, row, top = max(map(max, averages)), 26, 22
    peak, at = busiest_hour(averages)
    digits = 1 if most < 1000 else 0
    drawing = Drawing(
        "week",
        "Trips by hour and weekday",
        f"Average trips picked up in an hour, by weekday and hour. Most: {WEEKDAYS[peak]}s from {hour(at)}, "
        f"{number(averages[peak][at])}.",
        top + 7 * row + 8,
        ("From", *(name[:3] for name in WEEKDAYS)),
        [(hour(h), *(f"{averages[day][h]:,.{digits}f}" for day in range(7))) for h in range(24)],
    )
    slot = 100 / 24
    for day, name in enumerate(WEEKDAYS):
        drawing.words.append(Word(0, top + (day + 0.5) * row + 4, name[:3], "end", dx=-8))
        for h, trips in enumerate(averages[day]):
            title = f"{name}s, {hour(h)} to {hour((h + 1) % 24)}: {average(trips)} trips on average"
            drawing.rects.append(
                Rect(h * slot, top + day * row, slot, row, "cell", title, share(trips, most) if trips else 0.0)
            )
    for h in range(0, 24, 3):
        drawing.words.append(Word(h * slot, top - 8, hour(h), "start" if h % 6 == 0 else "start wide"))
    return drawing


def histogram(
    id_: str, title: str, counts: Histogram, quantity: str, unit: Callable[[float], str], label_every: float
) -> Drawing:
    """A distribution in equal bins, with the tails folded into one bar each and set apart from them.

    `quantity` goes into sentences ("distance in miles"), `unit` prints a value ("2.5 mi"), and the axis has a label
    every `label_every` units.
    """
    top, bottom = 26, 206
    known = counts.rows - counts.unknown
    bins = [
        (f"{unit(i * counts.width)} to {unit((i + 1) * counts.width)}", n, "kept") for i, n in enumerate(counts.counts)
    ]
    tails = [(f"below {unit(0)}", counts.below, "tail")], [(f"{unit(counts.end)} and more", counts.above, "tail")]
    bars = [*(tails[0] if counts.below else []), *bins, *tails[1]]
    first = len(bars) - len(bins) - 1
    middle = unit(counts.median) if counts.median is not None else None
    drawing = Drawing(
        id_,
        title,
        f"Share of trips by {quantity}, in bins of {unit(counts.width)}; from {unit(counts.end)} on in one bar. "
        + (f"The median is {middle}." if middle else "There is no median to tell."),
        bottom + 42,
        (quantity.capitalize(), "Trips", "Share"),
        [(name, number(n), percent(share(n, known))) for name, n, _ in bars],
    )
    slot = 100 / (len(bars) + 0.6 * (len(bars) - len(bins)))  # a gap of 0.6 bins sets a tail apart
    shares = ticks(max(share(n, known) for _, n, _ in bars), whole=False)
    scale = _axis(drawing, shares, top, bottom, axis_shares(shares))
    start = 1.6 * first  # where the first regular bin begins, in bins
    for i, (name, n, css) in enumerate(bars):
        at = start + i - first if css == "kept" else (0 if i < first else start + len(bins) + 0.6)
        height = scale * share(n, known)
        drawing.rects.append(Rect((at + 0.06) * slot, bottom - height, 0.88 * slot, height, css))
        title_ = f"{name}: {plural(n, 'trip')} ({percent(share(n, known))})"
        drawing.rects.append(Rect(at * slot, top, slot, bottom - top, "hit", title_))
        if css == "tail":
            words = f"<{unit(0)}" if i < first else f"{unit(counts.end)}+"
            place = ((at + 0.5) * slot, "middle") if i < first else (100, "end")
            drawing.words.append(Word(place[0], bottom + 18, words, place[1]))
    for k in range(math.ceil(counts.end / label_every)):
        x = (start + k * label_every / counts.width) * slot
        drawing.rules.append(Rule(x, bottom, x, bottom + 5, "tick"))
        if not (k == 0 and counts.below):
            drawing.words.append(Word(x, bottom + 18, unit(k * label_every), "middle"))
    if counts.median is not None and counts.median < counts.end:
        x = (start + counts.median / counts.width) * slot
        drawing.rules.append(Rule(x, top - 8, x, bottom, "median"))
        drawing.words.append(Word(x, top - 12, f"median {middle}", "middle name" if x > 15 else "start name"))
    return drawing


def weekday_averages(profile: MonthProfile) -> list[list[float]]:
    """Trips by weekday and hour on an average such day: a month has four or five of each."""
    days = [day.weekday() for day in month_of(profile).days]
    return [[trips / days.count(weekday) for trips in hours] for weekday, hours in enumerate(profile.hours)]


def busiest_hour(averages: Sequence[Sequence[float]]) -> tuple[int, int]:
    """Weekday and hour with the most trips."""
    return max(((day, h) for day in range(7) for h in range(24)), key=lambda at: averages[at[0]][at[1]])


def trips_per_day_svg(profile: MonthProfile) -> str:
    """The trips per day as a separate SVG image: 760 by 460 pixels, on white, in fixed colors.

    For Dagster's Markdown metadata, which can show an image but no page; it is readable in a light and in a dark theme,
    and self-contained.
    """
    drawing = trips_per_day(profile)
    title = f"{profile.kind.capitalize()} taxis, {month_of(profile).start:%B %Y}: trips per day"
    return environment().get_template("trips_per_day.svg.j2").render(drawing=drawing, title=title, profile=profile)


def trips_per_day_bars(profile: MonthProfile) -> str:
    """The trips per day as adjacent bars without labels, an SVG image of fewer than 690 characters.

    Dagster's UI shows Markdown of fewer than 1,000 characters at once, and longer text only on
    request. The image takes 920 of them in base64, which leaves room for the text.
    """
    most, height = max(day.trips + day.rejected for day in profile.days) or 1, 40

    def bars(rows: Callable[[Day], int]) -> str:
        tops = (height - round(height * rows(day) / most) for day in profile.days)
        return f"M0 {height}{''.join(f'V{top}h1' for top in tops)}V{height}"

    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="372" viewBox="0 0 {len(profile.days)} {height}" '
        f'height="64" preserveAspectRatio="none"><path d="{bars(lambda day: day.trips + day.rejected)}" '
        f'fill="#d9601a"/><path d="{bars(lambda day: day.trips)}" fill="#1f6aa5"/></svg>'
    )


@lru_cache
def environment() -> Environment:
    """The templates in this folder; inserted values are escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"number": number, "percent": percent, "px": lambda value: f"{value:.2f}".rstrip("0").rstrip(".")}
    return found


def _axis(drawing: Drawing, at: list[float], top: float, bottom: float, words: Callable[[float], str]) -> float:
    """Draw the horizontal rules of an axis and their labels; return the pixels of one unit."""
    scale = (bottom - top) / at[-1]
    for tick in at:
        y = bottom - scale * tick
        drawing.rules.append(Rule(0, y, 100, y, "grid" if tick else "base"))
        drawing.words.append(Word(0, y + 4, words(tick), "end", dx=-8))
    return scale


def _days_in_words(profile: MonthProfile) -> str:
    most, least = (pick(profile.days, key=lambda day: day.trips) for pick in (max, min))
    worst = max(profile.days, key=lambda day: day.share)
    named = {day.date: day_name(dt.date.fromisoformat(day.date)) for day in (most, least, worst)}
    return (
        f"Trips kept and rows rejected on each day of {month_of(profile).start:%B %Y}. Most trips on "
        f"{named[most.date]} ({number(most.trips)}), fewest on {named[least.date]} ({number(least.trips)}); the "
        f"largest rejected share on {named[worst.date]} ({percent(worst.share)})."
    )
