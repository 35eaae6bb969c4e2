"""Formats figures for the report: separators, units, names of days and hours. The templates use them as filters."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MINUS, NONE = "\N{MINUS SIGN}", "\N{EN DASH}"


def number(value: float) -> str:
    """`1,234`, with a real minus sign."""
    return f"{value:,.0f}".replace("-", MINUS)


def average(value: float) -> str:
    """An average, with a decimal where it is small."""
    return f"{value:.1f}" if 0 < value < 10 else number(value)


def compact(value: float) -> str:
    """`1,500`, `150k`, `2.5m`: short enough for an axis."""
    if value >= 1e6:
        return f"{value / 1e6:g}m"
    return f"{value / 1e3:g}k" if value >= 1e5 else number(value)


def percent(part: float, digits: int = 1) -> str:
    """A fraction as `3.1%`; a small value above 0 is not shown as 0%."""
    least = 10.0 ** -(digits + 2)
    return f"<{100 * least:.{digits}f}%" if 0 < part < least / 2 else f"{100 * part:.{digits}f}%"


def axis_shares(at: Sequence[float]) -> Callable[[float], str]:
    """How to print the ticks of an axis of shares: with as many decimals as its steps have."""
    digits = len(f"{100 * at[1]:g}".partition(".")[2])
    return lambda tick: f"{100 * tick:.{digits}f}%"


def miles(value: float) -> str:
    """`2.5 mi`, digits as needed."""
    return f"{value:,.2f}".rstrip("0").rstrip(".") + "\N{NO-BREAK SPACE}mi"


def dollars(value: float, digits: int | None = None) -> str:
    """`$2.50`, `$10` and a negative amount with its sign in front; without `digits`, cents where there are any."""
    text = f"{abs(value):,.{2 if digits is None else digits}f}"
    sign = MINUS if value < 0 and set(text) & set("123456789") else ""
    return f"{sign}${text.removesuffix('.00') if digits is None else text}"


def plural(count: int, word: str) -> str:
    """`1 trip`, `2 trips`."""
    return f"{number(count)} {word}{'' if count == 1 else 's'}"


def counted(parts: Sequence[tuple[int, str, str]]) -> str:
    """`2 trips below $0, 1 trip of exactly $0 and 3 rows without a time`: what there is any of; empty if there is nothing."""
    texts = [f"{plural(count, word)} {rest}" for count, word, rest in parts if count]
    return " and ".join(filter(None, (", ".join(texts[:-1]), *texts[-1:])))


def change(now: int, before: int) -> str:
    """`3.1% more`, `50.0% fewer` or `as many`."""
    share = (now - before) / before
    return f"{percent(abs(share))} {'more' if share > 0 else 'fewer'}" if abs(share) >= 0.0005 else "as many"


def hour(number_: int) -> str:
    """`6 pm`."""
    return {0: "midnight", 12: "noon"}.get(number_, f"{number_ % 12} {'am' if number_ < 12 else 'pm'}")


def day_name(date: dt.date) -> str:
    """`Friday 5 March`."""
    return f"{date:%A} {date.day} {date:%B}"


@cache
def environment() -> Environment:
    """Return the templates in this folder; inserted values are escaped."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (average, change, counted, day_name, dollars, hour, number, percent, plural)
    templates.filters |= {filter_.__name__: filter_ for filter_ in filters}
    templates.filters["px"] = lambda value: f"{value:.2f}".rstrip("0").rstrip(".")
    return templates
