"""The contract of every sink, as `test_contract` proves it briefly and `chaos` at length: a month is replaced whole or not
at all, whatever happens meanwhile; the others stay as they were; the next load succeeds and leaves nothing behind."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from taxi_assets.errors import TaxiError, TransientError, disk_full
from taxi_assets.trips.files import TripFile
from taxi_assets.trips.month import Month
from taxi_assets_tests.processes import until
from taxi_assets_tests.sinks.places import Contents, Fault, Place, contents_of


def require(place: Place, *allowed: TripFile) -> TripFile:
    """The month is exactly one of these."""
    month = allowed[0].month
    place.settle(month)
    found = place.held(month)
    for trips in allowed:
        if found == contents_of(trips):
            return trips
    raise WrongOutcome(f"{month} is {found}, not one of {[contents_of(trips) for trips in allowed]}")


def require_nothing_left(place: Place) -> None:
    try:
        until(
            lambda: not place.leftovers(), 10, "leftovers to go"
        )  # a server may take a moment to notice a killed client
    except AssertionError:
        raise LeftBehind(f"left behind: {place.leftovers()}") from None


class WrongOutcome(AssertionError):
    """Neither the old month nor the new one, or another month changed, or the next load failed."""


class LeftBehind(AssertionError):
    """Something stays after the next success."""


def seconds_to_replace(place: Place, trips: TripFile) -> float:
    """How long a process takes that does it for the first time."""
    with place.writer(trips) as process:
        begun = time.monotonic()
        process.join(60)
    return time.monotonic() - begun


@dataclass(frozen=True)
class Months:
    """A month as it is, as it shall be, and as a rival writes it at the same time; and another month."""

    old: TripFile
    new: TripFile
    rival: TripFile
    other: TripFile

    @staticmethod
    def in_place(place: Place) -> Months:
        """Made for the place, the old and the other one loaded."""
        old, new, rival = (place.trips("2021-01", place.rows + place.rows // 4 * seed, seed) for seed in range(3))
        other = place.trips("2021-02", 500)
        for trips in (other, old):
            place.replace(trips)
        return Months(old, new, rival, other)


Attempt = Callable[[Place, Months, random.Random, float, str], tuple[TripFile, ...]]
"""Try to replace the old month by the new one in a run, while something goes wrong within so many seconds; what the
month may be now."""


def _raise(place: Place, months: Months, chance: random.Random, seconds: float, run: str) -> tuple[TripFile, ...]:
    try:
        place.replace(place.broken(months.new), run)
    except (ZeroDivisionError, TaxiError):
        return (months.old,)
    except Exception as error:
        if "broken midway" in str(error):  # DuckDB wraps what a stream raises
            return (months.old,)
        raise
    raise WrongOutcome("broken trips were loaded")


def _kill(place: Place, months: Months, chance: random.Random, seconds: float, run: str) -> tuple[TripFile, ...]:
    with place.writer(months.new, run) as process:
        time.sleep(chance.uniform(0, seconds))
        process.kill()
        process.join()
    return (months.old, months.new) if process.exitcode else (months.new,)


def _kill_rival(place: Place, months: Months, chance: random.Random, seconds: float, run: str) -> tuple[TripFile, ...]:
    """The one that lives gets through, and wins unless the other one came after it."""
    with place.writer(months.rival) as process:
        killing = threading.Timer(chance.uniform(0, seconds), process.kill)
        killing.start()
        place.replace(months.new, run)
        killing.join()
    return months.new, months.rival


def _under(fault: Fault) -> Attempt:
    def attempt(place: Place, months: Months, chance: random.Random, seconds: float, run: str) -> tuple[TripFile, ...]:
        with fault(chance, seconds):
            try:
                place.replace(months.new, run)
            except TransientError:
                return months.old, months.new
            except (TaxiError, OSError) as error:  # OSError: of a staged file, see `failures.explained`
                if disk_full(error):
                    return months.old, months.new
                raise WrongOutcome(f"not said to be worth a retry: {error!r}") from error
        return (months.new,)

    return attempt


EVERYWHERE: dict[str, Attempt] = {"exception": _raise, "kill -9": _kill, "kill -9 of a rival": _kill_rival}
"""What can happen to every sink; `Place.faults` has the rest."""


def disaster(place: Place, kind: str, months: Months, chance: random.Random, seconds: float) -> str:
    """Replace the old month by the new one while `kind` happens, then load it again.

    Returns what became of the month: `old` or `new` (whoever wrote it).

    Raises:
        WrongOutcome, LeftBehind: what the contract rules out.
    """
    attempt = EVERYWHERE.get(kind) or _under(place.faults[kind])
    run = f"run-{chance.randrange(1 << 40)}"
    outcome = require(place, *attempt(place, months, chance, seconds, run))
    require(place, months.other)
    again, same_run = chance.choice([months.new, months.old]), chance.random() < 0.5
    try:
        place.replace(again, run if same_run and again is months.new else None)
    except Exception as error:
        raise WrongOutcome(f"the next load failed: {error!r}") from error
    require(place, again)
    require(place, months.other)
    require_nothing_left(place)
    return "old" if outcome is months.old else "new"


@dataclass
class Reader:
    """What somebody sees who looks at a month all the time."""

    looks: int = 0
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextmanager
def reader(place: Place, month: Month, allowed: set[Contents | None], rest: float = 0.0) -> Generator[Reader]:
    """Poll the month, resting `rest` times as long as a look takes.

    Being told to look again (TransientError) is no lie; other errors are kept apart from wrong months.
    """
    seen, enough = Reader(), threading.Event()

    def poll() -> None:
        pause = 0.0
        while not enough.wait(pause):
            begun = time.monotonic()
            try:
                if (found := place.look(month)) not in allowed:
                    seen.wrong.append(str(found))
                seen.looks += 1
            except TransientError:
                pass
            except Exception as error:  # noqa: BLE001
                seen.errors.append(repr(error))
            pause = rest * (time.monotonic() - begun)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield seen
    finally:
        enough.set()
        thread.join()
