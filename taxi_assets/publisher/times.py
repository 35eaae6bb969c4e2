"""How a file writes times: recognized in its first rows, and then required of every row.

The publisher writes `2021-01-31 23:59:59`. Other tools leave out the seconds, write a `T`, a zone or a 12-hour clock, or the
month first. What has two readings is not guessed: `recognize_times` says which setting decides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taxi_assets.publisher.options import DateOrder, ReadOptions, ZonedTimes

NEW_YORK_ZONES = ("America/New_York", "US/Eastern")
"""Zones in which the wall clock and the converted time are the same."""

_ZONES = (" ?Z", " ?UTC", "[+-][0-9]{2}", "[+-][0-9]{4}", "[+-][0-9]{2}:[0-9]{2}")
"""Zones after a time, as regular expressions; a file has one of them."""
_YEAR_FIRST = re.compile(
    r"[0-9]{4}(?P<mark>[-/])[0-9]{2}(?P=mark)[0-9]{2}[ T][0-9]{2}:[0-9]{2}(?P<seconds>:[0-9]{2}([.][0-9]{1,9})?)?"
    rf"(?P<zone>{'|'.join(_ZONES)})?"
)
_YEAR_LAST = re.compile(
    r"(?P<first>[0-9]{1,2})(?P<mark>[-/.])(?P<second>[0-9]{1,2})(?P=mark)[0-9]{4} [0-9]{1,2}:[0-9]{2}(?P<seconds>:[0-9]{2})?"
    r"(?P<half> ?[AaPp][Mm])?"
)


@dataclass(frozen=True)
class TimeFormat:
    """One way to write times. The default is the publisher's.

    `order` is that of year, month and day, `mark` is between them. `nanoseconds`: fractions have over six digits, then zeros.
    `half` is the blank or nothing before AM or PM; None: 24 hours. `zone` is that of one time, `zoned` what to do about it.
    """

    order: Literal["ymd"] | DateOrder = "ymd"
    mark: str = "-"
    seconds: bool = True
    nanoseconds: bool = False
    half: str | None = None
    zone: str = ""
    zoned: ZonedTimes = "wall_clock"

    def __str__(self) -> str:
        date = self.mark.join({"y": "YYYY", "m": "MM", "d": "DD"}[part] for part in self.order)
        clock = ("HH:MM:SS" if self.seconds else "HH:MM") + ("" if self.half is None else f"{self.half}AM")
        zone = {"wall_clock": "zone ignored", "convert": "converted to New York's time"}[self.zoned]
        return f"{date} {clock}{f'{self.zone}, {zone}' if self.zone else ''}"

    def read(self, values: pa.Array) -> tuple[pa.Array, pa.Array]:
        """Convert texts without blanks around them; return the times, null where a text is another one, and a mask of those.

        Arrow's functions are lenient: each text is compared with the format first.
        """
        fits = pc.fill_null(pc.match_substring_regex(values, f"^{self._pattern()}$"), True)
        if not pc.all(fits, min_count=0).as_py():
            values = pc.if_else(fits, values, None)
        times, wrong = self._year_first(values) if self.order == "ymd" else self._year_last(values)
        return times, pc.or_(pc.invert(fits), wrong)

    def _pattern(self) -> str:
        mark, seconds = re.escape(self.mark), ":[0-5][0-9]" if self.seconds else ""
        if self.order == "ymd":
            zone = re.sub("[0-9]", "[0-9]", re.sub("[+-]", "[+-]", self.zone))
            fraction = "([.][0-9]{1,9})?" if self.seconds else ""
            return f"[0-9]{{4}}{mark}[0-9]{{2}}{mark}[0-9]{{2}}[ T][0-9]{{2}}:[0-5][0-9]{seconds}{fraction}{zone}"
        month, day = "(0?[1-9]|1[0-2])", "(0?[1-9]|[12][0-9]|3[01])"
        first, second = (month, day) if self.order == "mdy" else (day, month)
        hour, half = (
            ("([01]?[0-9]|2[0-3])", "") if self.half is None else ("(0?[1-9]|1[0-2])", f"{self.half}[AaPp][Mm]")
        )
        return f"{first}{mark}{second}{mark}[0-9]{{4}} {hour}:[0-5][0-9]{seconds}{half}"

    def _year_first(self, values: pa.Array) -> tuple[pa.Array, pa.Array]:
        offset = self.zone[:1] in ("+", "-") and self.zoned == "convert"  # which Arrow reads
        if self.zone and not offset:
            values = pc.utf8_slice_codeunits(values, 0, -len(self.zone))
        if self.mark != "-":
            values = pc.replace_substring(values, self.mark, "-", max_replacements=2)
        if self.nanoseconds:  # Arrow reads no digits beyond microseconds
            values = pc.replace_substring_regex(values, r"([.][0-9]{6})0+", r"\1")
        target = pa.timestamp("us", "UTC" if offset else None)
        times, wrong = cast_each(values, lambda some: some.cast(target))
        if self.zone and self.zoned == "convert":
            times = in_new_york(times if offset else pc.assume_timezone(times, "UTC"))
        return times, wrong

    def _year_last(self, values: pa.Array) -> tuple[pa.Array, pa.Array]:
        date = self.mark.join(("%m", "%d") if self.order == "mdy" else ("%d", "%m"))
        clock = ("%H" if self.half is None else "%I") + ":%M" + (":%S" if self.seconds else "")
        half = "" if self.half is None else f"{self.half}%p"
        times = pc.strptime(values, format=f"{date}{self.mark}%Y {clock}{half}", unit="us", error_is_null=True)
        wrong = pc.or_(pc.and_(values.is_valid(), times.is_null()), self._beyond_the_month(values, times))
        return pc.if_else(wrong, None, times), wrong

    def _beyond_the_month(self, values: pa.Array, times: pa.Array) -> pa.Array:
        """Return a mask of days that a month does not have: strptime reads February 30 as March 2."""
        mark = re.escape(self.mark)
        late = f"^(29|30|31){mark}" if self.order == "dmy" else f"^[0-9]+{mark}(29|30|31){mark}"
        late = pc.fill_null(pc.match_substring_regex(values, late), False)
        return pc.and_(late, pc.less(pc.fill_null(pc.day(times), 31), 29))


PUBLISHED_TIMES = TimeFormat()


def cast_each(values: pa.Array, cast: Callable[[pa.Array], pa.Array]) -> tuple[pa.Array, pa.Array]:
    """Cast values; those that do not fit are null and in the mask. They are found by bisection: few of them need few casts."""
    with suppress(pa.ArrowInvalid):
        return cast(values), pa.repeat(False, len(values))
    wrong, todo = np.zeros(len(values), bool), [(0, len(values))]
    while todo:
        start, stop = todo.pop()
        try:
            cast(values[start:stop])
        except pa.ArrowInvalid:
            if stop - start == 1:
                wrong[start] = True
            else:
                middle = (start + stop) // 2
                todo += [(start, middle), (middle, stop)]
    bad = pa.array(wrong)
    return cast(pc.if_else(bad, None, values)), bad


def in_new_york(times: pa.Array) -> pa.Array:
    """Return instants as New York's wall clock, without a zone."""
    return pc.local_timestamp(times.cast(pa.timestamp("us", NEW_YORK_ZONES[0])))


def without_zone(times: pa.Array, zoned: ZonedTimes | None) -> pa.Array:
    """Return a column of instants as wall clock: that of New York, or with `wall_clock` that of the column's own zone."""
    return pc.local_timestamp(times).cast(pa.timestamp("us")) if zoned == "wall_clock" else in_new_york(times)


def recognize_times(
    column: str, texts: Sequence[str], options: ReadOptions, every_text: Callable[[], Iterator[pa.Array]]
) -> tuple[TimeFormat, list[str]]:
    """Recognize the format of a file's times.

    `texts` are the first values of a published `column`. `options` decide between two readings, else `every_text`, which returns
    all values in pieces.

    Returns:
        The format that most texts have, the publisher's if none has a known one; and what stands in the way.
    """
    formats = {text: format_ for text in texts if (format_ := _format(text))}
    if not formats:
        return PUBLISHED_TIMES, []
    ((most, _),) = Counter(map(_shape, (formats[text] for text in texts if text in formats))).most_common(1)
    text, format_ = next((text, format_) for text, format_ in formats.items() if _shape(format_) == most)
    if format_.order == "ymd":
        nanoseconds = any(each.nanoseconds for each in formats.values())
        format_ = replace(format_, nanoseconds=nanoseconds, zoned=options.zoned_times or "wall_clock")
        return format_, [zone_problem(column, repr(text))] if format_.zone and not options.zoned_times else []
    if other := next((other for other, each in formats.items() if each.order != "ymd" and each != format_), None):
        return format_, [
            f"has dates in two formats ({text!r} and {other!r} in {column!r}): a spreadsheet read some, and may have exchanged "
            "their day and month; use the file as it was before"
        ]
    if order := options.date_order or _date_order(every_text()):
        return replace(format_, order=order), []
    return format_, [
        f"has dates that can be read in two ways ({text!r} in {column!r}, and no day is above 12); set TAXI_DATE_ORDER=mdy if "
        "the month is first, or dmy if the day is"
    ]


def _format(text: str) -> TimeFormat | None:
    """Return the format of a text, with the month first where it may be the day; None if it has no known one."""
    if found := _YEAR_FIRST.fullmatch(text):
        seconds = found["seconds"] or ""
        return TimeFormat(
            "ymd", found["mark"], bool(seconds), len(seconds) > len(":00.123456"), zone=found["zone"] or ""
        )
    if found := _YEAR_LAST.fullmatch(text):
        half = found["half"]
        return TimeFormat("mdy", found["mark"], bool(found["seconds"]), False, None if half is None else half[:-2])
    return None


def _shape(format_: TimeFormat) -> TimeFormat:
    """Return what all texts of a format share: not the zone, which summer and winter change, nor how long fractions are."""
    return replace(format_, zone=re.sub("[0-9]", "0", format_.zone).replace("-", "+"), nanoseconds=False)


def is_time(text: str) -> bool:
    """Return whether a text is a time in a format that is known here."""
    return _format(text) is not None


def zone_problem(column: str, shown: str) -> str:
    """Return what stands in the way of a column whose times have a zone."""
    return (
        f"has times with a zone ({shown} in {column!r}); set TAXI_ZONED_TIMES=wall_clock if they are New York's wall clock that "
        "a tool labeled so, or convert if they are to be converted to New York's"
    )


def _date_order(pieces: Iterator[pa.Array]) -> DateOrder | None:
    """Return the order that the first number above 12 shows; None if there is none."""
    above = "(1[3-9]|2[0-9]|3[01])"
    for texts in pieces:
        first = pc.index(pc.match_substring_regex(texts, f"^{above}[-/.]"), True).as_py()
        second = pc.index(pc.match_substring_regex(texts, f"^[0-9]{{1,2}}[-/.]{above}[-/.]"), True).as_py()
        if max(first, second) >= 0:
            return "dmy" if second < 0 or 0 <= first < second else "mdy"
    return None
