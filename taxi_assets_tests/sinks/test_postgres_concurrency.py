# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""The Postgres sink with others around: writers of the same month and of others, and readers, who never wait long."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from taxi_assets.core.errors import TransientError
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.sinks.postgres.io_manager import PostgresIOManager
from taxi_assets_tests.months import same_trips
from taxi_assets_tests.postgres_fixtures import ON_OTHER_VERSIONS
from taxi_assets_tests.postgres_sink_fixtures import JANUARY, TABLE, Streamed, parts, reading, relations, sink
from taxi_assets_tests.processes import until
from taxi_assets_tests.sink_fixtures import holds, log, made, writing


@ON_OTHER_VERSIONS
def test_twenty_months_at_once_on_an_empty_database_all_arrive(every_postgres_url, writing, tmp_path):
    months = [made(tmp_path, f"{2020 + n // 12}-{n % 12 + 1:02d}", rows=500 + n, seed=n) for n in range(20)]
    sink = PostgresIOManager(url=every_postgres_url)
    for _ in range(2):  # the second time every load has an old partition to take away
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda trips: sink.replace(YELLOW.table, trips, writing), months))
        for trips in months:
            assert holds(sink, trips)
    assert len(relations(every_postgres_url)) == 23


def test_two_writers_of_a_month_take_turns_and_the_last_one_wins(sink, writing, log, postgres_url, tmp_path):
    first, second = made(tmp_path), made(tmp_path, rows=1_000, seed=1)
    midway, go_on = threading.Event(), threading.Event()

    def pause(number: int) -> None:
        if number == 2:
            midway.set()
            assert go_on.wait(30)

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(sink.replace, YELLOW.table, Streamed(first, pause), writing)
        assert midway.wait(30)
        two = pool.submit(sink.replace, YELLOW.table, second, writing)
        until(lambda: any("waiting for another run" in line for line in log), 20, "the second writer to wait")
        assert not two.done()
        go_on.set()
        one.result()
        two.result()
    assert same_trips(sink.read(YELLOW.table, JANUARY), second)
    assert relations(postgres_url) == parts("2021_01")


def test_a_writer_that_waits_too_long_for_another_gives_up_in_a_sentence(writing, postgres_url, tmp_path):
    midway, go_on = threading.Event(), threading.Event()

    def pause(number: int) -> None:
        midway.set()
        assert go_on.wait(30)

    with ThreadPoolExecutor(1) as pool:
        one = pool.submit(
            PostgresIOManager(url=postgres_url).replace, YELLOW.table, Streamed(made(tmp_path), pause), writing
        )
        assert midway.wait(30)
        with pytest.raises(
            TransientError, match=r"2021-01: another run has been writing this month of ny_taxi.yellow_cab_data"
        ):
            PostgresIOManager(url=postgres_url, patience=0.5).replace(YELLOW.table, made(tmp_path), writing)
        go_on.set()
        one.result()


def test_a_reader_throughout_sees_the_old_or_the_new_month_and_never_waits_long(every_postgres_url, writing, tmp_path):
    sink = PostgresIOManager(url=every_postgres_url)
    months = [made(tmp_path, rows=rows, seed=rows) for rows in (20_000, 30_000)]
    sink.replace(YELLOW.table, months[1], writing)
    with reading(every_postgres_url) as seen:
        for _ in range(4):
            for trips in months:
                sink.replace(YELLOW.table, trips, writing)
    assert seen.counts == {20_000, 30_000}
    assert seen.longest < 2


def test_a_long_transaction_of_a_reader_delays_the_swap_and_other_readers_hardly_notice(
    writing, log, postgres_url, tmp_path
):
    sink, old, new = PostgresIOManager(url=postgres_url), made(tmp_path), made(tmp_path, rows=3_000, seed=1)
    sink.replace(YELLOW.table, old, writing)
    with ThreadPoolExecutor(1) as pool, reading(postgres_url) as seen:
        with psycopg.connect(postgres_url, application_name="a notebook") as notebook:
            assert notebook.execute(f"SELECT count(*) FROM {TABLE}").fetchone() == (2_000,)
            replaced = pool.submit(sink.replace, YELLOW.table, new, writing)
            until(lambda: sum("retrying" in line for line in log) >= 2, 30, "the swap to try twice")
            assert not replaced.done()
            # whoever else reads at that moment may be named before it
            named = (
                rf"in use by (process \d+ of taxi[^;]* and )?process {notebook.info.backend_pid} of taxi \(a notebook\)"
            )
            assert any(re.search(named, line) for line in log), log
        replaced.result(timeout=30)
    assert holds(sink, new)
    assert seen.counts == {2_000, 3_000}
    assert seen.longest < 4  # 1.2 s in line behind the swap, on a busy machine
    assert "SELECT" not in "".join(log)


def test_a_reader_that_does_not_end_is_named_and_the_month_stays_as_it_was(writing, postgres_url, tmp_path):
    sink, old = PostgresIOManager(url=postgres_url, patience=2), made(tmp_path)
    sink.replace(YELLOW.table, old, writing)
    with psycopg.connect(postgres_url, application_name="a notebook") as notebook:
        notebook.execute(f"SELECT count(*) FROM {TABLE}")
        with pytest.raises(
            TransientError, match=r"2021-01: .* in use by process \d+ of taxi \(a notebook\), its query begun"
        ):
            sink.replace(YELLOW.table, made(tmp_path, seed=1), writing)
    assert same_trips(sink.read(YELLOW.table, JANUARY), old)
    assert relations(postgres_url) == parts("2021_01")


def test_a_reader_of_the_handle_that_stops_early_lets_go_of_the_table(sink, writing, tmp_path):
    trips = made(tmp_path, rows=200_000)
    sink.replace(YELLOW.table, trips, writing)
    batches = sink.read(YELLOW.table, JANUARY).batches(rows=1_000)
    assert next(batches).num_rows == 1_000
    batches.close()
    begun = time.monotonic()
    sink.replace(YELLOW.table, made(tmp_path, rows=10), writing)
    assert time.monotonic() - begun < 5
