"""Formats figures for the report's page and charts: separators, units, names of days and hours."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence

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
    for unit, size in (("m", 1e6), ("k", 1e3)):
        if value >= 100_000 and value >= size:
            return f"{value / size:g}{unit}"
    return number(value)


def percent(part: float, digits: int = 1) -> str:
    """A fraction as `3.1%`; a small value above 0 is not shown as 0%."""
    least = 10.0 ** -(digits + 2)
    return f"<{100 * least:.{digits}f}%" if 0 < part < least / 2 else f"{100 * part:.{digits}f}%"


def axis_shares(at: Sequence[float]) -> Callable[[float], str]:
    """How to print the ticks of an axis of shares: with decimals when the steps need them."""
    digits = max(0, -math.floor(math.log10(100 * at[1]) + 1e-9)) + (round(1000 * at[1]) % 10 != 0 and at[1] >= 0.01)
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


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def hour(number_: int) -> str:
    """`6 pm`."""
    return {0: "midnight", 12: "noon"}.get(number_, f"{number_ % 12} {'am' if number_ < 12 else 'pm'}")


def day_name(date: dt.date) -> str:
    """`Friday 5 March`."""
    return f"{date:%A} {date.day} {date:%B}"
