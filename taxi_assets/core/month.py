"""A calendar month of New York's wall clock: the unit that is published, loaded and replaced."""

from __future__ import annotations

import datetime as dt
import re
from typing import NamedTuple

from taxi_assets.core.errors import PermanentError


class Month(NamedTuple):
    """A year and a month, ordered in time."""

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """Read `2021-01` or a partition key `2021-01-01`.

        Raises:
            PermanentError: the text is neither.
        """
        match = re.fullmatch(r"(\d{4})-(\d{2})(?:-01)?", text.strip())
        if not match or not 1 <= int(match[2]) <= 12:
            raise PermanentError(f"{text!r} is not a month: write it as YYYY-MM, for example 2021-01.")
        return cls(int(match[1]), int(match[2]))

    @property
    def start(self) -> dt.datetime:
        """The first instant of the month, New York wall clock without zone."""
        return dt.datetime(self.year, self.month, 1)

    @property
    def end(self) -> dt.datetime:
        """The first instant after the month, New York wall clock without zone."""
        return self.next.start

    @property
    def next(self) -> Month:
        """The following month."""
        return Month(self.year + self.month // 12, self.month % 12 + 1)

    @property
    def previous(self) -> Month:
        """The month before."""
        return Month(self.year - (self.month == 1), (self.month - 2) % 12 + 1)

    def through(self, last: Month) -> list[Month]:
        """Return the months from this one to `last`, both included; this one alone if `last` is not after it."""
        months = [self]
        while months[-1] < last:
            months.append(months[-1].next)
        return months

    @property
    def days(self) -> list[dt.date]:
        """Every day of the month, in order."""
        first = self.start.date()
        return [first + dt.timedelta(days=i) for i in range((self.end - self.start).days)]

    @property
    def key(self) -> str:
        """The partition key: `2021-01-01`."""
        return f"{self.year:04d}-{self.month:02d}-01"

    @property
    def compact(self) -> str:
        """`202101`, the form of BigQuery's partition decorators."""
        return f"{self.year:04d}{self.month:02d}"

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"
