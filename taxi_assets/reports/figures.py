"""The profile of a month: small plain data, stored as JSON next to the report, for comparison with other years.

`profile` computes it.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict, dataclass, field

from pydantic import TypeAdapter

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month

FORMAT = 1
"""Incremented when the fields below change; a stored profile of another format is not compared with."""


@dataclass(frozen=True)
class Day:
    """A day's trips kept, and rejected rows whose pickup was on it; `date` is YYYY-MM-DD."""

    date: str
    trips: int
    rejected: int

    @property
    def as_date(self) -> dt.date:
        """The day."""
        return dt.date.fromisoformat(self.date)

    @property
    def share(self) -> float:
        """Rejected rows as a part of the day's rows, 0 to 1."""
        return share(self.rejected, self.trips + self.rejected)


@dataclass(frozen=True)
class Histogram:
    """How many trips lie in bins of `width`, the first from 0; a bin holds its lower edge and not its upper one.

    Values count to the hundredth. `above` is the tail from the last bin's end on, `below` the negative values, `zero`
    the part of the first bin that is exactly 0, `unknown` the empty values. `median` is None when there is none, or
    when it lies in the far tail.
    """

    width: float
    counts: tuple[int, ...]
    above: int
    below: int
    zero: int
    unknown: int
    median: float | None

    @property
    def end(self) -> float:
        """Where the last bin ends and the tail begins."""
        return self.width * len(self.counts)

    @property
    def rows(self) -> int:
        """All values, unknown ones included."""
        return sum(self.counts) + self.above + self.below + self.unknown


@dataclass(frozen=True)
class Zone:
    """A taxi zone and the trips picked up in it; name and borough are None where the lookup has none."""

    id: int
    name: str | None
    borough: str | None
    trips: int


@dataclass(frozen=True)
class Places:
    """Where trips began: the busiest zones, trips without a zone, and trips that have coordinates instead."""

    top: tuple[Zone, ...]
    without_zone: int
    with_coordinates: int
    named: bool


@dataclass(frozen=True)
class Totals:
    """Sums over the trips kept: passengers, miles, and US dollars; `revenue` is what was charged, cash tips apart.

    None: the dataset has no such thing.
    """

    trips: int
    passengers: int | None = None
    miles: float | None = None
    fares: float | None = None
    tips: float | None = None
    revenue: float | None = None


@dataclass(frozen=True)
class Origin:
    """Where the month came from, as its files record it; a generated month has no real trips."""

    source: str
    location: str
    version: str
    generated: bool


@dataclass(frozen=True)
class MonthProfile:
    """A month in figures. `month` is YYYY-MM, pickups are `YYYY-MM-DD HH:MM:SS`, New York wall clock.

    `hours` counts trips by weekday (Monday first) and hour of pickup. `undated` are the trips kept, and
    `rejected_outside` and `rejected_undated` the rejected rows, that are on no day of the month: picked up in another
    one, or without a pickup time. `payments` counts trips by code ("" where there is none), `reasons` rejected rows.
    `request_sources` and `rejected_request_sources` count trips kept and rejected by code; both are empty where no trip of
    the month has a request source, and in profiles written before it was counted. `companies` counts the trips of for-hire
    vehicles by company or, where it is not published, base: the ten largest. `distances` and `fares` are None where the
    dataset has no such thing.
    """

    kind: str
    month: str
    raw_rows: int
    rejected_rows: int
    totals: Totals
    days: tuple[Day, ...]
    undated: int
    rejected_outside: int
    rejected_undated: int
    hours: tuple[tuple[int, ...], ...]
    distances: Histogram | None
    fares: Histogram | None
    places: Places
    payments: dict[str, int]
    reasons: dict[str, int]
    first_pickup: str | None
    last_pickup: str | None
    origin: Origin
    request_sources: dict[str, int] = field(default_factory=dict)
    rejected_request_sources: dict[str, int] = field(default_factory=dict)
    companies: dict[str, int] = field(default_factory=dict)

    @property
    def start(self) -> dt.datetime:
        """The first instant of the month."""
        return Month.parse(self.month).start

    @property
    def rejected_share(self) -> float:
        """Rejected rows as a part of all rows, 0 to 1."""
        return share(self.rejected_rows, self.raw_rows)

    @property
    def unaccounted(self) -> int:
        """Published rows that are neither clean nor rejected; anything but 0 is an error upstream."""
        return self.raw_rows - self.totals.trips - self.rejected_rows

    def to_json(self) -> str:
        """The profile as JSON text, for `from_json`."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> MonthProfile:
        """Read what `to_json` wrote.

        Raises:
            PermanentError: the text is no profile, or one of another release.
        """
        try:
            fields = json.loads(text)
            if fields.pop("format", None) != FORMAT:
                raise ValueError("another release of taxi_assets wrote it")
            return TypeAdapter(cls).validate_python(fields)
        except (ValueError, TypeError, AttributeError) as error:
            raise PermanentError(
                f"A stored profile cannot be read ({str(error).splitlines()[0]}); "
                "materialize month_report of its month again."
            ) from None


def share(part: float, whole: float) -> float:
    """`part` of `whole`, 0 when there is no whole."""
    return part / whole if whole else 0.0
