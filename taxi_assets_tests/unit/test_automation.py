"""What is to be done about a month follows from what is published and what was materialized."""

import dataclasses

import pytest

from taxi_assets.core import run_tags
from taxi_assets.core.errors import TransientError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.publisher.source import Published
from taxi_assets.status.decide import Judgement, Known, Made, State, by_urgency, judge, ranges, rotate
from taxi_assets.status.probing import ask

GRAPH = {
    "raw_trips": frozenset(),
    "clean_trips": frozenset({"raw_trips"}),
    "gcs_parquet": frozenset({"clean_trips"}),
    "bq_table": frozenset({"gcs_parquet"}),
    "postgres_table": frozenset({"clean_trips"}),
}
MONTH = Month(2021, 1)
PUBLISHED = Published("https://publisher/2021-01", "v1", 1000, None)
LOADED = Known(
    {name: Made(order, "1", True) for order, name in enumerate(GRAPH)},
    version="v1",
    location="https://publisher/2021-01",
    size=1000,
)


def known(**changes: Made | None) -> Known:
    made = {name: each for name, each in {**LOADED.made, **changes}.items() if each}
    return Known(made, LOADED.version, LOADED.location, LOADED.size)


def judged(published: Published | None, of: Known, code: str = "1") -> Judgement:
    return judge(MONTH, published, of, GRAPH, dict.fromkeys(GRAPH, code))


def test_a_loaded_month_whose_source_and_code_are_unchanged_is_current_and_says_why():
    judgement = judged(PUBLISHED, LOADED)
    assert judgement.state is State.CURRENT
    assert "from the version that is published now" in judgement.reason


def test_a_loaded_month_that_the_publisher_withdrew_stays_and_that_is_said():
    assert judged(None, LOADED).reason.endswith("it is published no more")


@pytest.mark.parametrize(
    ("published", "of", "code", "state"),
    [
        (None, Known(), "1", State.UNPUBLISHED),
        (PUBLISHED, Known(), "1", State.MISSING),
        (PUBLISHED, Known(running="abcdef"), "1", State.RUNNING),
        (Published(PUBLISHED.location, "v2", 1000, None), LOADED, "1", State.CHANGED),
        (Published(PUBLISHED.location, None, 1001, None), LOADED, "1", State.CHANGED),
        (Published(PUBLISHED.location, None, 1000, None), LOADED, "1", State.CURRENT),
        (Published("https://mirror/2021-01", "m1", 1000, None), LOADED, "1", State.OTHER_SOURCE),
        (PUBLISHED, LOADED, "2", State.OUTDATED),
        (None, LOADED, "1", State.CURRENT),
    ],
)
def test_the_state_of_a_month(published, of, code, state):
    assert judged(published, of, code).state is state


def test_a_month_whose_new_column_is_known_now_is_outdated_but_for_its_raw_trips():
    judgement = judged(PUBLISHED, dataclasses.replace(LOADED, outdated={"clean_trips": "has no column surge_fee"}))
    assert judgement.state is State.OUTDATED
    assert judgement.reason == "clean_trips has no column surge_fee"
    assert judgement.assets == GRAPH.keys() - {"raw_trips"}


@pytest.mark.parametrize(
    ("changes", "assets", "reason"),
    [
        ({"bq_table": None}, {"bq_table"}, "bq_table was never materialized"),
        ({"gcs_parquet": None}, {"gcs_parquet", "bq_table"}, "gcs_parquet was never materialized"),
        ({"clean_trips": Made(9, "1", True)}, {"gcs_parquet", "bq_table", "postgres_table"}, "is older than clean_trips"),
        ({"postgres_table": Made(4, "1", False)}, {"postgres_table"}, "has a blocking check that did not pass"),
        ({"bq_table": Made(3, "0", True)}, {"bq_table"}, "was made by code version 0, now 1"),
    ],
)  # fmt: skip
def test_only_what_is_not_finished_is_to_be_done_again(changes, assets, reason):
    judgement = judged(PUBLISHED, known(**changes))
    assert judgement.state is State.UNFINISHED
    assert judgement.assets == assets
    assert reason in judgement.reason


def test_a_changed_source_is_loaded_whole():
    assert judged(Published(PUBLISHED.location, "v2", 1, None), known(bq_table=None)).assets is None


def test_missing_months_come_first_and_newer_ones_before_older_ones():
    states = [State.OUTDATED, State.MISSING, State.CURRENT, State.CHANGED, State.MISSING]
    judgements = [Judgement(Month(2021, i + 1), state, "") for i, state in enumerate(states)]
    assert [str(j.month) for j in by_urgency(judgements)] == ["2021-05", "2021-02", "2021-04", "2021-01"]


def test_months_are_told_as_ranges():
    assert ranges([Month(2020, 1), Month(2019, 12), Month(2020, 5)]) == "2019-12 to 2020-01, 2020-05"
    assert ranges([]) == ""


def test_every_month_has_its_turn():
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
    """A source whose months after 2021-06 cannot be asked for."""

    def __init__(self) -> None:
        self.asked: list[Month] = []

    def probe(self, kind, month):
        self.asked.append(month)
        if month > Month(2021, 6):
            raise TransientError(f"{month}: no answer.")
        return PUBLISHED if month.month % 2 else None


def test_a_publisher_in_trouble_is_not_asked_on_and_on_and_never_raises():
    source = Source()
    answers = ask(source, YELLOW, [Month(2021, i) for i in range(12, 0, -1)])
    assert "no answer" in answers.trouble
    assert len(source.asked) < 12
    patient = ask(Source(), YELLOW, [Month(2021, i) for i in range(1, 9)], refusals=3)
    assert patient.newest == Month(2021, 5)
    assert len(patient.published) == 6


def test_who_started_a_run_is_told_from_its_tags():
    assert run_tags.started_by({}) == "user"
    assert run_tags.started_by({"dagster/backfill": "abc"}) == "backfill abc"
    assert run_tags.started_by({"dagster/schedule_name": "s", run_tags.STARTED_BY: "schedule reconcile_yellow"}) == (
        "schedule reconcile_yellow"
    )


def test_a_process_is_known_by_its_start_and_only_on_its_own_host():
    mine = run_tags.this_process()
    assert not run_tags.is_gone(mine)
    host, pid, start = mine.rsplit(" ", 2)
    assert run_tags.is_gone(f"{host} {pid} {int(start) + 1 if start.isdigit() else 'x'}")
    assert not run_tags.is_gone(f"elsewhere {pid} 1")
