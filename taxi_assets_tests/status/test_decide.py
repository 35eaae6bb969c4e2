"""What to do about a month follows from what is published and what the lake and the sinks record."""

import dataclasses

import pytest

from taxi_assets.core import run_tags
from taxi_assets.core.errors import TransientError
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.publisher.published import Published
from taxi_assets.status.decide import (
    Assets,
    Cell,
    Decision,
    Expected,
    MonthRecord,
    State,
    count,
    decide,
    ranges,
    rotate,
)
from taxi_assets.status.plan import by_urgency
from taxi_assets.status.probing import ProbeResults, newest_published, probe_months

ASSETS = Assets(
    "raw_trips", "clean_trips", "rejected_trips", ("gcs_parquet", "bq_table", "postgres_table"), ("report",)
)
LAKE = {"raw_trips", "clean_trips", "rejected_trips"}
MONTH = Month(2021, 1)
PUBLISHED = Published("https://publisher/2021-01", "v1", 1000, None)
OTHER_VERSION = Published(PUBLISHED.location, "v2", 1000, None)
RULES = {"reject_zero_passengers": True}
CLEAN = Manifest(
    90,
    {"total_amount": 1234.5},
    extra={
        "location": PUBLISHED.location, "version": "v1", "sha256": "ab", "published_bytes": 1000, "generated": False,
        "code_version": "1", "rules": RULES, "loaded_columns": {}, "loaded_at": "2021-03-01T00:00:00+00:00",
    },
)  # fmt: skip


def with_extra(manifest: Manifest, **extra: object) -> Manifest:
    return dataclasses.replace(manifest, extra={**manifest.extra, **extra})


LOADED = dict.fromkeys(ASSETS.all, CLEAN) | {
    "raw_trips": Manifest(100, extra=CLEAN.extra),
    "report": Manifest(0, extra=CLEAN.extra),
}
V2 = with_extra(CLEAN, version="v2", sha256="cd")


def record(**changes: Manifest | None) -> MonthRecord:
    return MonthRecord({name: each for name, each in {**LOADED, **changes}.items() if each})


def decision(published: Published | None, of: MonthRecord, code: str = "1", outdated=lambda _: None) -> Decision:
    return decide(MONTH, published, of, ASSETS, Expected(code, outdated))


def test_a_loaded_month_with_unchanged_source_and_code_is_current_with_the_reason():
    result = decision(PUBLISHED, record())
    assert result.state is State.CURRENT
    assert "by the current code, from the published version" in result.reason
    assert set(result.cells.values()) == {Cell.LOADED}


def test_a_loaded_month_that_the_publisher_withdrew_is_current_and_the_reason_names_it():
    assert decision(None, record()).reason.endswith("no longer published")


@pytest.mark.parametrize(
    ("published", "of", "code", "state"),
    [
        (None, MonthRecord(), "1", State.UNPUBLISHED),
        (PUBLISHED, MonthRecord(), "1", State.MISSING),
        (PUBLISHED, MonthRecord(running="abcdef"), "1", State.RUNNING),
        (OTHER_VERSION, record(), "1", State.CHANGED),
        (Published(PUBLISHED.location, None, 1001, None), record(), "1", State.CHANGED),
        (Published(PUBLISHED.location, None, 1000, None), record(), "1", State.CURRENT),
        (Published("https://mirror/2021-01", "m1", 1000, None), record(), "1", State.OTHER_SOURCE),
        (PUBLISHED, record(), "2", State.OUTDATED),
        (None, record(), "1", State.CURRENT),
    ],
)
def test_the_state_of_a_month(published, of, code, state):
    assert decision(published, of, code).state is state


@pytest.mark.parametrize("why", ["lacks column surge_fee", "was cleaned with another reject_zero_passengers"])
def test_a_month_with_a_new_column_or_other_rules_is_cleaned_again_from_the_lake(why):
    result = decision(PUBLISHED, record(), outdated=lambda _: why)
    assert result.state is State.OUTDATED
    assert result.reason == f"clean_trips {why}"
    assert result.assets == set(ASSETS.all) - {"raw_trips"}
    result = decision(PUBLISHED, record(raw_trips=None), outdated=lambda _: why)
    assert result.assets is None  # without its raw month it is downloaded


def test_a_sink_loaded_before_zone_ids_were_recorded_is_behind_a_clean_month_that_has_them():
    """As older versions wrote it; a sink's record of a month without zone ids is a copy of such a month."""
    older = Manifest.from_json(CLEAN.to_json())
    located = with_extra(CLEAN, zone_outlines="ab")
    sinks = dict.fromkeys((*ASSETS.sinks, *ASSETS.derived), located)
    result = decision(PUBLISHED, record(clean_trips=located, **sinks | {"bq_table": older}))
    assert (result.state, result.assets) == (State.UNFINISHED, {"bq_table"})
    assert result.reason == "bq_table has another zone outlines"
    assert decision(PUBLISHED, record(clean_trips=with_extra(CLEAN, zone_outlines=None))).state is State.CURRENT


def test_a_month_keeps_the_rules_it_was_given_by_a_run():
    own = with_extra(CLEAN, rules={"reject_zero_passengers": False}, own_rules=True)
    loaded = dict.fromkeys(ASSETS.all, own)
    assert decision(OTHER_VERSION, MonthRecord(loaded)).rules == {"reject_zero_passengers": False}
    assert decision(OTHER_VERSION, record()).rules is None


@pytest.mark.parametrize(
    ("changes", "assets", "reason"),
    [
        ({"bq_table": None}, {"bq_table"}, "bq_table does not have it"),
        ({"gcs_parquet": None}, {"gcs_parquet"}, "gcs_parquet does not have it"),
        ({"report": None}, {"report"}, "report does not have it"),
        ({"postgres_table": dataclasses.replace(CLEAN, rows=89)}, {"postgres_table"}, "has 89 rows of 90"),
        ({"postgres_table": dataclasses.replace(CLEAN, sums={"total_amount": 1.0})}, {"postgres_table"}, "other sums"),
        ({"bq_table": V2}, {"bq_table"}, "bq_table has another version and sha256"),
        ({"report": with_extra(LOADED["report"], rules={})}, {"report"}, "report has another rules"),
        ({"report": Manifest(-1)}, {"report"}, "report is not the same in every place"),
        ({"bq_table": None, "clean_trips": None}, {"bq_table", "clean_trips", "rejected_trips"}, "bq_table does not"),
        ({"bq_table": None, "raw_trips": None, "clean_trips": None}, {"bq_table", *LAKE}, "bq_table does not have it"),
        ({"bq_table": None, "rejected_trips": None}, {"bq_table", "clean_trips", "rejected_trips"}, "bq_table does"),
    ],
)  # fmt: skip
def test_only_the_sinks_that_do_not_have_the_month_are_loaded_from_the_lake_where_it_is(changes, assets, reason):
    result = decision(PUBLISHED, record(**changes))
    assert result.state is State.UNFINISHED
    assert result.assets == assets
    assert reason in result.reason
    assert result.cells.keys() == {*ASSETS.sinks, *ASSETS.derived}


def test_a_sink_whose_check_failed_is_loaded_again():
    result = decision(PUBLISHED, dataclasses.replace(record(), failed={"postgres_table": "run"}))
    assert (result.assets, result.reason) == ({"postgres_table"}, "postgres_table has a check that failed")
    assert result.cells["postgres_table"] is Cell.DIFFERS


def test_what_an_audit_found_is_shown_and_loaded_again_if_repair_is_on():
    audited = dataclasses.replace(record(), failed={"postgres_table": "audit"})
    result = decision(PUBLISHED, audited)
    assert (result.state, result.cells["postgres_table"]) == (State.CURRENT, Cell.DIFFERS)
    result = decide(MONTH, PUBLISHED, audited, ASSETS, Expected("1", repair=True))
    assert (result.state, result.assets) == (State.UNFINISHED, {"postgres_table"})


def test_a_month_whose_raw_check_failed_is_loaded_whole_and_one_whose_clean_check_failed_from_the_lake():
    assert decision(PUBLISHED, dataclasses.replace(record(), failed={"raw_trips": "run"})).assets is None
    clean = decision(PUBLISHED, dataclasses.replace(record(), failed={"clean_trips": "run"}))
    assert clean.assets == set(ASSETS.all) - {"raw_trips"}


def test_a_lake_that_is_gone_is_not_missed_while_the_sinks_have_the_published_version():
    assert decision(PUBLISHED, record(**dict.fromkeys(LAKE))).state is State.CURRENT


def test_a_month_that_another_machine_loaded_in_a_newer_version_is_current_whatever_this_lake_has():
    sinks = dict.fromkeys((*ASSETS.sinks, *ASSETS.derived), V2)
    assert decision(OTHER_VERSION, record(**sinks)).state is State.CURRENT
    assert decision(OTHER_VERSION, record(**sinks | {"bq_table": None})).assets == {"bq_table", *LAKE}


def test_a_month_whose_new_raw_trips_were_loaded_before_a_kill_continues_from_them():
    result = decision(OTHER_VERSION, record(raw_trips=Manifest(100, extra=V2.extra)))
    assert result.state is State.UNFINISHED
    assert result.assets == set(ASSETS.all) - {"raw_trips"}


def test_the_same_without_an_answer_of_the_publisher():
    killed = record(raw_trips=Manifest(100, extra=V2.extra))
    result = decide(MONTH, None, killed, ASSETS, Expected("1"), probed=False)
    assert (result.assets, result.reason) == (set(ASSETS.all) - {"raw_trips"}, "clean_trips is older than raw_trips")


@pytest.mark.parametrize("probed", [True, False])
def test_a_withdrawn_month_without_clean_trips_is_cleaned_from_the_lake_and_is_not_up_to_date(probed):
    raw = {"raw_trips": LOADED["raw_trips"]}
    result = decide(MONTH, None, MonthRecord(raw), ASSETS, Expected("1"), probed=probed)
    assert (result.state, result.assets) == (State.UNFINISHED, set(ASSETS.all) - {"raw_trips"})
    assert result.reason == "clean_trips is not in the lake"
    only_report = MonthRecord({"report": LOADED["report"]})
    result = decide(MONTH, None, only_report, ASSETS, Expected("1"), probed=probed)
    assert result.state is State.UNPUBLISHED
    assert result.reason == f"loaded in part, {'no longer published' if probed else 'source not checked'}"
    assert set(result.cells.values()) == {Cell.MISSING}


def test_a_generated_month_is_marked():
    generated = {name: with_extra(each, generated=True) for name, each in LOADED.items()}
    assert set(decision(PUBLISHED, MonthRecord(generated)).cells.values()) == {Cell.GENERATED}


def test_months_that_an_older_version_recorded_in_part_are_recognized():
    old = Manifest(90, {"total_amount": 1234.5}, extra={"version": "v1", "code_version": "1"})
    rows_only = Manifest(90)
    assert (
        decision(PUBLISHED, record(postgres_table=old, bq_table=rows_only, report=Manifest(0))).state is State.CURRENT
    )


def test_a_changed_source_is_loaded_whole():
    assert decision(OTHER_VERSION, record(bq_table=None)).assets is None


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


class Unreliable:
    """A source that publishes the months up to `newest` and does not answer for some."""

    def __init__(self, newest: int, *failing: int) -> None:
        self.newest, self.failing = newest, failing

    def probe(self, kind, month):
        if month.month in self.failing:
            raise TransientError(f"{month}: no answer.")
        return PUBLISHED if month.month <= self.newest else None


@pytest.mark.parametrize(
    ("newest", "failing", "known"),
    [(10, (), True), (10, (11,), False), (10, (12, 9), False), (10, (9,), True), (5, (10,), False), (0, (), True)],
)
def test_the_newest_month_is_known_only_if_every_newer_one_was_answered(newest, failing, known):
    results = newest_published(Unreliable(newest, *failing), YELLOW, [Month(2021, i) for i in range(1, 13)])
    assert (results.error is None) is known
    if known:
        assert results.newest == (Month(2021, newest) if newest else None)
    else:
        assert results.error.startswith("Which month is the newest is not known: 2021-")


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


def test_a_source_without_versions_still_tells_one_attempt_from_another():
    sized, unsized = (Published("f", None, size, None) for size in (1000, None))
    results = ProbeResults({Month(2021, 1): sized, Month(2021, 2): unsized, Month(2021, 3): None})
    assert [results.version(Month(2021, n)) for n in (1, 2, 3, 4)] == ["1000 bytes", "unknown bytes", None, None]
