"""The contract of every sink, as `test_contract` proves it briefly and `chaos` at length: a month is replaced whole or not
at all, whatever happens meanwhile; the others stay as they were; the next load succeeds and leaves nothing behind."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from taxi_assets.core.errors import TaxiError, TransientError, disk_full
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import YELLOW
from taxi_assets_tests.months import same_manifest
from taxi_assets_tests.processes import until
from taxi_assets_tests.sinks.places.base import Contents, Fault, Place, Writer, contents_of

SEED = int(os.environ.get("CONTRACT_SEED") or random.SystemRandom().randrange(1 << 32))
"""What the tests' choices follow; a failure prints it."""
KILLS = int(os.environ.get("CONTRACT_KILLS") or 0)
"""How often each sink's writer is killed; by default 5 times, and 2 where the emulator of BigQuery takes seconds for it."""


def require(place: Place, *allowed: MonthFile) -> MonthFile:
    """The month is exactly one of these, and what the sink records of it is so, too."""
    month = allowed[0].month
    for _ in range(10):  # a job that outlived its process may end between two looks
        place.settle(month)
        found = place.held(month)
        held = next((trips for trips in allowed if found == contents_of(trips)), None)
        if held is None:
            raise WrongOutcome(f"{month} is {found}, not one of {[contents_of(trips) for trips in allowed]}")
        problem = wrong_record(place, held, records(place))
        if problem is None:
            return held
        if place.held(month) == found:
            raise WrongOutcome(problem)
    raise WrongOutcome(f"{month} keeps changing")


def records(place: Place) -> dict[Month, Manifest]:
    """What the sink records of its months; nothing of one that keeps days."""
    return place.sink.manifests(YELLOW.table) if place.records_manifests else {}


def wrong_record(place: Place, trips: MonthFile, records: dict[Month, Manifest]) -> str | None:
    """What is wrong with what the sink records of these trips, which it holds; None if nothing is."""
    if not place.records_manifests:
        return None
    recorded = records.get(trips.month)
    if recorded is None or recorded.rows != trips.rows:
        return f"{trips.month} is recorded as {recorded}, and has {trips.rows} rows"
    if (recorded.extra or place.name != "bigquery") and not same_manifest(recorded, trips.manifest):
        return f"{trips.month} is recorded as {recorded}, and is {trips.manifest}"
    return None


def require_nothing_left(place: Place) -> None:
    try:
        # a server may take a moment to notice a killed client
        until(lambda: not place.leftovers(), 10, "leftovers to go")
    except AssertionError:
        raise LeftBehind(f"left behind: {place.leftovers()}") from None


class WrongOutcome(AssertionError):
    """Neither the old month nor the new one, or another month changed, or the next load failed."""


class LeftBehind(AssertionError):
    """Something stays after the next success."""


@dataclass(frozen=True)
class Months:
    """A month as it is, as it shall be, and as a rival writes it at the same time; and another month."""

    old: MonthFile
    new: MonthFile
    rival: MonthFile
    other: MonthFile

    @staticmethod
    def in_place(place: Place) -> Months:
        """Made for the place, the old and the other one loaded, and the place's pace taken."""
        old, new, rival = (place.trips("2021-01", place.rows + place.rows // 4 * seed, seed) for seed in range(3))
        other = place.trips("2021-02", 500)
        for trips in (other, old):
            place.replace(trips)
        with place.writer(old) as writer:
            place.pace = writer.seconds() or place.pace
        return Months(old, new, rival, other)

    def after(self, now: MonthFile) -> Months:
        """The months when the one that shall be replaced next is `now`, the old or the new one."""
        return self if now is self.old else replace(self, old=self.new, new=self.old)


@dataclass(frozen=True)
class Attempted:
    """What came of an attempt to replace the old month while something goes wrong."""

    allowed: tuple[MonthFile, ...]
    """What the month may be now."""
    struck: bool
    """Whether it went wrong before the attempt had ended by itself."""


Attempt = Callable[[Place, Months, random.Random, str], Attempted]
"""Try to replace the old month by the new one in a run, while something goes wrong within the place's pace."""


def _raise(place: Place, months: Months, chance: random.Random, run: str) -> Attempted:
    try:
        place.replace(place.broken(months.new), run)
    except (ZeroDivisionError, TaxiError):
        return Attempted((months.old,), True)
    except Exception as error:
        if "broken midway" in str(error):  # DuckDB wraps what a stream raises
            return Attempted((months.old,), True)
        raise
    raise WrongOutcome("broken trips were loaded")


def _kill(place: Place, months: Months, chance: random.Random, run: str) -> Attempted:
    with place.writer(months.new, run, chance.uniform(0, place.pace)) as writer:
        struck = _struck(place, writer)
    return Attempted((months.old, months.new) if struck else (months.new,), struck)


def _kill_rival(place: Place, months: Months, chance: random.Random, run: str) -> Attempted:
    """The one that lives gets through, and wins unless the other one came after it."""
    with place.writer(months.rival, killed_after=chance.uniform(0, place.pace)) as rival:
        place.replace(months.new, run)
        return Attempted((months.new, months.rival), _struck(place, rival))


def _struck(place: Place, writer: Writer) -> bool:
    """Whether the writer was killed; if it had ended before, the pace was taken on a busier machine."""
    if (seconds := writer.seconds()) is None:
        return True
    place.pace = (place.pace + seconds) / 2
    return False


def _under(fault: Fault) -> Attempt:
    def attempt(place: Place, months: Months, chance: random.Random, run: str) -> Attempted:
        allowed: tuple[MonthFile, ...] = (months.new,)
        begun = time.monotonic()
        with fault(chance, place.pace) as happened:
            try:
                place.replace(months.new, run)
            except TransientError:
                allowed = (months.old, months.new)
            except (TaxiError, OSError) as error:  # OSError: of a staged file, see `failures.explained`
                if not disk_full(error):
                    raise WrongOutcome(f"not said to be worth a retry: {error!r}") from error
                allowed = (months.old, months.new)
            if not happened.is_set():  # it was faster than when the pace was taken: on a busy machine
                place.pace = (place.pace + time.monotonic() - begun) / 2
        return Attempted(allowed, happened.is_set())

    return attempt


EVERYWHERE: dict[str, Attempt] = {"exception": _raise, "kill -9": _kill, "kill -9 of a rival": _kill_rival}
"""What can happen to every sink; `Place.faults` has the rest."""


@dataclass(frozen=True)
class Outcome:
    """What became of a month after a disaster, and what it is since the next load."""

    struck: bool
    kept: str
    """`old` or `new` (whoever wrote it)."""
    now: MonthFile


def disaster(place: Place, kind: str, months: Months, chance: random.Random) -> Outcome:
    """Replace the old month by the new one while `kind` happens, then load one of them again.

    Raises:
        WrongOutcome, LeftBehind: what the contract rules out.
    """
    attempt = EVERYWHERE.get(kind) or _under(place.faults[kind])
    run = f"run-{chance.randrange(1 << 40)}"
    attempted = attempt(place, months, chance, run)
    outcome = require(place, *attempted.allowed)
    if kind == "kill -9" and attempted.struck and outcome is months.old:
        place.pace *= 1.05  # so that the end of the writing has its share of kills however busy the machine is
    again, same_run = chance.choice([months.new, months.old]), chance.random() < 0.5
    try:
        place.replace(again, run if same_run and again is months.new else None)
    except Exception as error:
        raise WrongOutcome(f"the next load failed: {error!r}") from error
    if place.housekeeping_after_kill and kind.startswith("kill -9"):
        place.housekeeping()
    require(place, again)
    require(place, months.other)
    require_nothing_left(place)
    return Outcome(attempted.struck, "old" if outcome is months.old else "new", again)


@dataclass
class Reader:
    """What somebody sees who looks at a month all the time."""

    looks: int = 0
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextmanager
def reader(place: Place, month: Month, allowed: set[Contents | None], rest: float = 0.0) -> Generator[Reader]:
    """Poll the month, the sink's measure of it and its record, resting `rest` times as long as a look takes.

    Being told to look again (TransientError) is no lie; other errors are kept apart from wrong months.
    """
    seen, enough = Reader(), threading.Event()
    rows = {int(each.split()[0]) if each else None for each in allowed}
    answers = [place.sink.measure, *([place.sink.manifest] if place.records_manifests else [])]

    def poll() -> None:
        pause = 0.0
        while not enough.wait(pause):
            begun = time.monotonic()
            try:
                with place.looking:
                    found = place.look(month)
                if found not in allowed:
                    seen.wrong.append(str(found))
                for ask in answers:
                    answer = ask(YELLOW.table, month)
                    if (answer.rows if answer else None) not in rows:
                        seen.wrong.append(f"{ask.__name__}: {answer}")
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
