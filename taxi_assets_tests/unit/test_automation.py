"""What to do about a month follows from what is published and what was materialized."""

import dataclasses

import pytest

from taxi_assets.core import run_tags
from taxi_assets.core.errors import TransientError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.publisher.published import Published
from taxi_assets.status.decide import (
    Decision,
    Materialized,
    MonthRecord,
    State,
    by_urgency,
    count,
    decide,
    ranges,
    rotate,
)
from taxi_assets.status.probing import probe_months

GRAPH = {
    "raw_trips": frozenset(),
    "clean_trips": frozenset({"raw_trips"}),
    "gcs_parquet": frozenset({"clean_trips"}),
    "bq_table": frozenset({"gcs_parquet"}),
    "postgres_table": frozenset({"clean_trips"}),
}
MONTH = Month(2021, 1)
PUBLISHED = Published("https://publisher/2021-01", "v1", 1000, None)
LOADED = MonthRecord(
    {name: Materialized(order, "1", True) for order, name in enumerate(GRAPH)},
    version="v1",
    location="https://publisher/2021-01",
    size=1000,
)


def record(**changes: Materialized | None) -> MonthRecord:
    materialized = {name: each for name, each in {**LOADED.materialized, **changes}.items() if each}
    return MonthRecord(materialized, LOADED.version, LOADED.location, LOADED.size)


def decision(published: Published | None, of: MonthRecord, code: str = "1") -> Decision:
    return decide(MONTH, published, of, GRAPH, dict.fromkeys(GRAPH, code))


def test_a_loaded_month_with_unchanged_source_and_code_is_current_with_the_reason():
    result = decision(PUBLISHED, LOADED)
    assert result.state is State.CURRENT
    assert "by the current code, from the published version" in result.reason


def test_a_loaded_month_that_the_publisher_withdrew_is_current_and_the_reason_names_it():
    assert decision(None, LOADED).reason.endswith("no longer published")


@pytest.mark.parametrize(
    ("published", "of", "code", "state"),
    [
        (None, MonthRecord(), "1", State.UNPUBLISHED),
        (PUBLISHED, MonthRecord(), "1", State.MISSING),
        (PUBLISHED, MonthRecord(running="abcdef"), "1", State.RUNNING),
        (Published(PUBLISHED.location, "v2", 1000, None), LOADED, "1", State.CHANGED),
        (Published(PUBLISHED.location, None, 1001, None), LOADED, "1", State.CHANGED),
        (Published(PUBLISHED.location, None, 1000, None), LOADED, "1", State.CURRENT),
        (Published("https://mirror/2021-01", "m1", 1000, None), LOADED, "1", State.OTHER_SOURCE),
        (PUBLISHED, LOADED, "2", State.OUTDATED),
        (None, LOADED, "1", State.CURRENT),
    ],
)
def test_the_state_of_a_month(published, of, code, state):
    assert decision(published, of, code).state is state


def test_a_month_whose_new_column_is_known_now_is_outdated_but_for_its_raw_trips():
    result = decision(PUBLISHED, dataclasses.replace(LOADED, outdated={"clean_trips": "has no column surge_fee"}))
    assert result.state is State.OUTDATED
    assert result.reason == "clean_trips has no column surge_fee"
    assert result.assets == GRAPH.keys() - {"raw_trips"}


@pytest.mark.parametrize(
    ("changes", "assets", "reason"),
    [
        ({"bq_table": None}, {"bq_table"}, "bq_table was never materialized"),
        ({"gcs_parquet": None}, {"gcs_parquet", "bq_table"}, "gcs_parquet was never materialized"),
        ({"clean_trips": Materialized(9, "1", True)}, {"gcs_parquet", "bq_table", "postgres_table"}, "is older than clean_trips"),
        ({"postgres_table": Materialized(4, "1", False)}, {"postgres_table"}, "has a blocking check that did not pass"),
        ({"bq_table": Materialized(3, "0", True)}, {"bq_table"}, "was materialized by code version 0, now 1"),
    ],
)  # fmt: skip
def test_only_unfinished_assets_are_loaded_again(changes, assets, reason):
    result = decision(PUBLISHED, record(**changes))
    assert result.state is State.UNFINISHED
    assert result.assets == assets
    assert reason in result.reason


def test_a_changed_source_is_loaded_whole():
    assert decision(Published(PUBLISHED.location, "v2", 1, None), record(bq_table=None)).assets is None


def test_missing_months_come_first_and_newer_ones_before_older_ones():
    states = [State.OUTDATED, State.MISSING, State.CURRENT, State.CHANGED, State.MISSING]
    decisions = [Decision(Month(2021, i + 1), state, "") for i, state in enumerate(states)]
    assert [str(j.month) for j in by_urgency(decisions)] == ["2021-05", "2021-02", "2021-04", "2021-01"]


def test_months_are_formatted_as_ranges_and_counts():
    assert ranges([Month(2020, 1), Month(2019, 12), Month(2020, 5)]) == "2019-12 to 2020-01, 2020-05"
    assert ranges([]) == ""
    assert [count(n) for n in (0, 1, 2)] == ["0 months", "1 month", "2 months"]


def test_rotation_reaches_every_month():
    months = [Month(2021, i) for i in range(1, 8)]
    seen, after = [], None
    for _ in range(4):
        turn = rotate(months, after, 3)
        assert len(turn) == 3
        after = str(turn[-1])
        seen += turn
    assert set(seen) == set(months)
    assert rotate(months, "2021-07", 2) == months[:2]


class Source:
    """A source that fails for months after 2021-06."""

    def __init__(self) -> None:
        self.probed: list[Month] = []

    def probe(self, kind, month):
        self.probed.append(month)
        if month > Month(2021, 6):
            raise TransientError(f"{month}: no answer.")
        return PUBLISHED if month.month % 2 else None


def test_probing_stops_at_an_error_and_does_not_raise():
    source = Source()
    results = probe_months(source, YELLOW, [Month(2021, i) for i in range(12, 0, -1)])
    assert "no answer" in results.error
    assert len(source.probed) < 12
    tolerant = probe_months(Source(), YELLOW, [Month(2021, i) for i in range(1, 9)], max_errors=3)
    assert tolerant.newest == Month(2021, 5)
    assert len(tolerant.published) == 6


def test_the_starter_of_a_run_is_in_its_tags():
    assert run_tags.started_by({}) == "user"
    assert run_tags.started_by({"dagster/backfill": "abc"}) == "backfill abc"
    assert run_tags.started_by({"dagster/schedule_name": "s", run_tags.STARTED_BY: "schedule reconcile_yellow"}) == (
        "schedule reconcile_yellow"
    )


def test_a_process_is_identified_by_its_start_and_only_on_its_own_host():
    mine = run_tags.this_process()
    assert not run_tags.is_gone(mine)
    host, pid, start = mine.rsplit(" ", 2)
    assert run_tags.is_gone(f"{host} {pid} {int(start) + 1 if start.isdigit() else 'x'}")
    assert not run_tags.is_gone(f"elsewhere {pid} 1")
