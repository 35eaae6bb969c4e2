# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""Every sink keeps the contract: one set of tests over all of them. `make chaos` does the same at random, and for longer.

A failure prints its seed; CONTRACT_SEED=<seed> makes the same choices again, CONTRACT_KILLS kills more often.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.schema import GREEN, YELLOW
from taxi_assets_tests.months import same_manifest, same_trips
from taxi_assets_tests.sinks.contract import (
    EVERYWHERE,
    KILLS,
    SEED,
    Months,
    disaster,
    reader,
    records,
    require,
    require_nothing_left,
    wrong_record,
)
from taxi_assets_tests.sinks.place_fixtures import place
from taxi_assets_tests.sinks.places import SINKS
from taxi_assets_tests.sinks.places.base import JANUARY, Place, contents, contents_of

FAULTS = {
    "postgres": ["connection cut", "server killed"],
    "object": ["disk full"],
    "days": ["disk full"],
    "daily": ["disk full"],
    "duckdb": ["disk full"],
    "gcs-object": ["503s and resets", "server gone"],
    "gcs-days": ["503s and resets", "server gone"],
    "gcs-daily": ["503s and resets", "server gone"],
    "bigquery": ["503s and resets", "server gone", "server killed"],
    "lake": ["disk full"],
    "lake-copied": ["disk full"],
}
TIMES = {"server killed": 1, "disk full": 5}


@pytest.fixture(params=SINKS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def chance(name: str) -> random.Random:
    print(f"CONTRACT_SEED={SEED}")
    return random.Random(f"{SEED} {name}")


def test_a_month_that_was_never_written_is_absent(place):
    assert place.sink.measure(YELLOW.table, JANUARY) is None
    with pytest.raises(PermanentError, match=r"2021-01.*materialize"):
        place.sink.read(YELLOW.table, JANUARY)


def test_a_month_becomes_exactly_each_version_in_turn_and_another_month_stays(place):
    assert place.held(JANUARY) is None
    place.replace(february := place.trips("2021-02", 500))
    for rows, seed in ((1_000, 0), (1_000, 0), (1_300, 1), (10, 2), (0, 3), (1_000, 0)):
        place.replace(trips := place.trips("2021-01", rows, seed))
        require_as_written(place, trips)
        require_nothing_left(place)
    require_as_written(place, february)


def require_as_written(place: Place, trips: MonthFile) -> None:
    """What the ordinary client finds, and what is measured, recorded and read back, equals the month that was written."""
    require(place, trips)
    assert same_manifest(place.sink.measure(YELLOW.table, trips.month), trips.manifest)
    assert contents(place.sink.read(YELLOW.table, trips.month).to_arrow()) == contents_of(trips)
    if place.records_manifest:
        assert place.sink.manifest(YELLOW.table, trips.month) == trips.manifest


def test_what_is_recorded_of_all_months_names_their_source_code_and_run(place):
    if not place.records_manifests:
        pytest.skip("keeps days")
    assert place.sink.manifests(YELLOW.table) == {}
    origin = {"version": "v1", "sha256": "ab" * 32, "code_version": "1", "rules": {"reject_zero_passengers": True}}
    months = {}
    for month, rows in (("2021-01", 300), ("2021-02", 0), ("2021-03", 200), ("2021-01", 100)):
        trips = place.trips(month, rows, extra=origin)
        place.replace(trips, run="5a0d0d36-run")
        months[trips.month] = trips
    recorded = place.sink.manifests(YELLOW.table)
    assert recorded.keys() == months.keys()
    for month, trips in months.items():
        assert same_manifest(recorded[month], trips.manifest)
        assert recorded[month].stale(trips.manifest) == []
        assert {name: recorded[month].extra.get(name) for name in origin} == origin
        assert recorded[month].extra.get("run_id", "5a0d0d36-run") == "5a0d0d36-run"
        assert place.sink.manifest(YELLOW.table, month) == recorded[month]
    assert place.sink.manifest(YELLOW.table, Month(2021, 4)) is None
    assert place.sink.manifests(GREEN.table) == {}


def test_datasets_are_kept_apart(place):
    if not place.records_manifests:
        pytest.skip("keeps days, by the dataset only if its template does")
    yellow, green = place.trips("2021-01", 200), place.trips("2021-01", 300, seed=1, kind=GREEN)
    place.replace(yellow)
    place.replace(green, kind=GREEN)
    require(place, yellow)
    assert same_manifest(place.sink.measure(GREEN.table, JANUARY), green.manifest)
    assert same_trips(place.sink.read(GREEN.table, JANUARY), green)


def test_an_empty_month_can_be_the_first(place):
    place.replace(empty := place.trips("2021-01", 0))
    require(place, empty)


def test_twenty_months_at_once_in_threads_and_processes_all_arrive(place):
    months = [place.trips(f"{2020 + n // 12}-{n % 12 + 1:02d}", 50 + n) for n in range(20)]
    with place.writer(months[0]) as one, place.writer(months[1]) as other, ThreadPoolExecutor(18) as pool:
        list(pool.map(place.replace, months[2:]))
        assert None not in (one.seconds(), other.seconds())
    recorded = records(place)
    for trips in months:
        assert place.held(trips.month) == contents_of(trips)
        assert wrong_record(place, trips, recorded) is None
    require_nothing_left(place)


def test_one_month_written_by_threads_and_processes_at_once_ends_as_one_of_them(place):
    place.replace(february := place.trips("2021-02", 100))
    versions = [place.trips("2021-01", 300 + 100 * seed, seed) for seed in range(4)]
    with place.writer(versions[0]) as one, place.writer(versions[1]) as other, ThreadPoolExecutor(2) as pool:
        list(pool.map(place.replace, versions[2:]))
        assert None not in (one.seconds(), other.seconds())
    require(place, *versions)
    require(place, february)
    require_nothing_left(place)


def test_a_reader_who_looks_all_the_time_sees_the_old_or_the_new_month(place, chance):
    versions = [place.trips("2021-01", 1_000 + 500 * seed, seed) for seed in range(2)]
    place.replace(versions[0])
    with reader(place, JANUARY, {contents_of(trips) for trips in versions}) as seen:
        replaced = 0
        while not (seen.wrong or seen.errors) and (replaced < 6 or (seen.looks < 6 and replaced < 200)):
            place.replace(versions[(replaced := replaced + 1) % 2])
            time.sleep(chance.choice([0, 0, 0.05, 0.3]))  # or a reader may have to look again every time
    assert (seen.wrong, seen.errors) == ([], [])
    assert seen.looks >= 6


@pytest.mark.parametrize(("name", "kind"), [(sink, kind) for sink in SINKS for kind in (*EVERYWHERE, *FAULTS[sink])])
def test_a_month_survives(place, kind, chance):
    if kind == "disk full" and not place.faults:
        pytest.skip("a full disk needs the right to mount one")
    months, outcomes = Months.in_place(place), []
    wanted = TIMES.get(kind, 2) if kind != "kill -9" else KILLS or (2 if place.name == "bigquery" else 5)
    for _ in range(10 * wanted):
        outcome = disaster(place, kind, months, chance)
        outcomes.append(outcome.kept if outcome.struck else "too late")
        if len(outcomes) - outcomes.count("too late") == wanted:
            break
        months = months.after(outcome.now)
    else:
        pytest.fail(f"could not be struck {wanted} times before it had ended: {outcomes}")
    print(f"the month was then {outcomes}")
