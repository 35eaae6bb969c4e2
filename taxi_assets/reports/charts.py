"""The geometry of the report's charts: positions and labels of bars, lines and texts, and the table behind each chart.

The template `chart.svg.j2` has the markup. Horizontal positions are percent of the plot's width, vertical ones are
pixels, so that a chart fits any width while its text keeps its size; narrow screens hide texts of class `wide`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from taxi_assets.reports.figures import Histogram, MonthProfile, share
from taxi_assets.reports.words import (
    WEEKDAYS,
    average,
    axis_shares,
    compact,
    day_name,
    environment,
    hour,
    number,
    percent,
    plural,
)


class Rect(NamedTuple):
    """A bar, band or cell; `title` is shown on hover, `strength` (0 to 1) shades it."""

    x: float
    y: float
    width: float
    height: float
    css: str
    title: str = ""
    strength: float | None = None


class Rule(NamedTuple):
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    css: str = "grid"


class Word(NamedTuple):
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
    drawing = Drawing(
        "days",
        "Trips per day",
        _describe_days(profile),
        share_bottom + 8,
        ("Day", "Kept", "Rejected", "Rejected share"),
        [
            (f"{day.as_date:%a} {day.as_date.day}", number(day.trips), number(day.rejected), percent(day.share))
            for day in profile.days
        ],
    )
    slot = 100 / len(profile.days)
    scale = _axis(drawing, ticks(max(day.trips + day.rejected for day in profile.days)), top, bottom, compact)
    shares = ticks(max(day.share for day in profile.days), 3, whole=False)
    share_scale = _axis(drawing, shares, share_top, share_bottom, axis_shares(shares))
    drawing.words.append(Word(0, share_top - 12, "Rejected, share of rows", "start name"))
    for i, day in enumerate(profile.days):
        date, x, width = day.as_date, (i + 0.14) * slot, 0.72 * slot
        if date.weekday() >= 5:
            drawing.rects.append(Rect(i * slot, top, slot, bottom - top, "band"))
            drawing.rects.append(Rect(i * slot, share_top, slot, share_bottom - share_top, "band"))
        kept, bad, part = scale * day.trips, scale * day.rejected, share_scale * day.share
        title = f"{day_name(date)}: {number(day.trips)} kept, {number(day.rejected)} rejected ({percent(day.share)})"
        drawing.rects += [
            Rect(x, bottom - kept, width, kept, "kept"),
            Rect(x, bottom - kept - bad, width, bad, "rejected"),
            Rect(x, share_bottom - part, width, part, "rejected"),
            Rect(i * slot, 0, slot, drawing.height, "hit", title),
        ]
        css = "middle" if (date.day - 1) % 7 == 0 else "middle wide"
        drawing.words.append(Word((i + 0.5) * slot, bottom + 18, str(date.day), css))
    drawing.words.append(Word(100, bottom + 36, f"day of {profile.start:%B}", "end name"))
    return drawing


def week(profile: MonthProfile) -> Drawing:
    """Trips by hour of pickup and weekday, on an average such day of the month."""
    averages, busiest, row, top = weekday_averages(profile), peak(profile), 26, 22
    digits = 1 if busiest.trips < 1000 else 0
    drawing = Drawing(
        "week",
        "Trips by hour and weekday",
        f"Average trips picked up in an hour, by weekday and hour. Most: {busiest.weekday}s from {hour(busiest.hour)}, "
        f"{number(busiest.trips)}.",
        top + 7 * row + 8,
        ("From", *(name[:3] for name in WEEKDAYS)),
        [(hour(h), *(f"{trips[h]:,.{digits}f}" for trips in averages)) for h in range(24)],
    )
    slot = 100 / 24
    for day, name in enumerate(WEEKDAYS):
        drawing.words.append(Word(0, top + (day + 0.5) * row + 4, name[:3], "end", dx=-8))
        for h, trips in enumerate(averages[day]):
            title = f"{name}s, {hour(h)} to {hour((h + 1) % 24)}: {average(trips)} trips on average"
            strength = share(trips, busiest.trips)
            drawing.rects.append(Rect(h * slot, top + day * row, slot, row, "cell", title, strength))
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
    start = 1.6 if counts.below else 0  # where the bins begin, in bins; a gap of 0.6 bins sets a tail apart
    end = start + len(counts.counts)
    bars = [
        (start + i, f"{unit(i * counts.width)} to {unit((i + 1) * counts.width)}", n, "kept")
        for i, n in enumerate(counts.counts)
    ]
    bars.append((end + 0.6, f"{unit(counts.end)} and more", counts.above, "tail"))
    if counts.below:
        bars.insert(0, (0, f"below {unit(0)}", counts.below, "tail"))
    median = unit(counts.median) if counts.median is not None else None
    drawing = Drawing(
        id_,
        title,
        f"Share of trips by {quantity}, in bins of {unit(counts.width)}; from {unit(counts.end)} on in one bar. "
        + (f"The median is {median}." if median else "There is no median."),
        bottom + 42,
        (quantity.capitalize(), "Trips", "Share"),
        [(name, number(n), percent(share(n, known))) for _, name, n, _ in bars],
    )
    slot = 100 / (end + 1.6)
    shares = ticks(max(share(n, known) for _, _, n, _ in bars), whole=False)
    scale = _axis(drawing, shares, top, bottom, axis_shares(shares))
    for at, name, n, css in bars:
        height, hover = scale * share(n, known), f"{name}: {plural(n, 'trip')} ({percent(share(n, known))})"
        drawing.rects.append(Rect((at + 0.06) * slot, bottom - height, 0.88 * slot, height, css))
        drawing.rects.append(Rect(at * slot, top, slot, bottom - top, "hit", hover))
    if counts.below:
        drawing.words.append(Word(0.5 * slot, bottom + 18, f"<{unit(0)}", "middle"))
    drawing.words.append(Word(100, bottom + 18, f"{unit(counts.end)}+", "end"))
    for k in range(math.ceil(counts.end / label_every)):
        x = (start + k * label_every / counts.width) * slot
        drawing.rules.append(Rule(x, bottom, x, bottom + 5, "tick"))
        if not (k == 0 and counts.below):
            drawing.words.append(Word(x, bottom + 18, unit(k * label_every), "middle"))
    if counts.median is not None and counts.median < counts.end:
        x = (start + counts.median / counts.width) * slot
        drawing.rules.append(Rule(x, top - 8, x, bottom, "median"))
        drawing.words.append(Word(x, top - 12, f"median {median}", "middle name" if x > 15 else "start name"))
    return drawing


def weekday_averages(profile: MonthProfile) -> list[list[float]]:
    """Trips by weekday and hour on an average such day: a month has four or five of each."""
    days = [day.as_date.weekday() for day in profile.days]
    return [[trips / days.count(weekday) for trips in hours] for weekday, hours in enumerate(profile.hours)]


class Peak(NamedTuple):
    """The hour of the week with the most trips, on an average such day."""

    weekday: str
    hour: int
    trips: float


def peak(profile: MonthProfile) -> Peak:
    """Return the busiest hour; the first of several."""
    averages = zip(WEEKDAYS, weekday_averages(profile), strict=True)
    return max((Peak(day, h, n) for day, hours in averages for h, n in enumerate(hours)), key=lambda hour: hour.trips)


def trips_per_day_svg(profile: MonthProfile) -> str:
    """The trips per day as a separate SVG image: 760 by 460 pixels, on white, in fixed colors.

    For Dagster's Markdown metadata, which can show an image but no page; it is readable in a light and in a dark theme,
    and self-contained.
    """
    drawing = trips_per_day(profile)
    title = f"{profile.kind.capitalize()} taxis, {profile.start:%B %Y}: trips per day"
    return environment().get_template("trips_per_day.svg.j2").render(drawing=drawing, title=title, profile=profile)


def trips_per_day_bars(profile: MonthProfile) -> str:
    """The trips per day as adjacent bars without labels, an SVG image of fewer than 690 characters.

    Dagster's UI shows Markdown of fewer than 1,000 characters at once, and longer text only on
    request. The image takes 920 of them in base64, which leaves room for the text.
    """
    kept, rows = [day.trips for day in profile.days], [day.trips + day.rejected for day in profile.days]
    heights = [[round(40 * n / (max(rows) or 1)) for n in counts] for counts in (rows, kept)]
    every, blue = (f"M0 40{''.join(f'V{40 - height}h1' for height in bars)}V40" for bars in heights)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="372" viewBox="0 0 {len(rows)} 40" height="64" '
        f'preserveAspectRatio="none"><path d="{every}" fill="#d9601a"/><path d="{blue}" fill="#1f6aa5"/></svg>'
    )


def _axis(drawing: Drawing, at: list[float], top: float, bottom: float, words: Callable[[float], str]) -> float:
    """Draw the horizontal rules of an axis and their labels; return the pixels of one unit."""
    scale = (bottom - top) / at[-1]
    for tick in at:
        y = bottom - scale * tick
        drawing.rules.append(Rule(0, y, 100, y, "grid" if tick else "base"))
        drawing.words.append(Word(0, y + 4, words(tick), "end", dx=-8))
    return scale


def _describe_days(profile: MonthProfile) -> str:
    most, least = (pick(profile.days, key=lambda day: day.trips) for pick in (max, min))
    worst = max(profile.days, key=lambda day: day.share)
    return (
        f"Trips kept and rows rejected on each day of {profile.start:%B %Y}. Most trips on {day_name(most.as_date)} "
        f"({number(most.trips)}), fewest on {day_name(least.as_date)} ({number(least.trips)}); the largest rejected "
        f"share on {day_name(worst.as_date)} ({percent(worst.share)})."
    )
