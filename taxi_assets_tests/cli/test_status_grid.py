"""The grid of `taxi-assets status`: one mark for each month and sink, and what the next backfill would do."""

import json

import pytest

from taxi_assets.cli import status
from taxi_assets.core.month import Month
from taxi_assets.status.decide import Cell, Decision, State


def decision(month: str, state: State, reason: str = "", assets: set[str] | None = None, **cells: Cell) -> Decision:
    default = {"postgres_table": Cell.MISSING, "bq_table": Cell.MISSING}
    selected = None if assets is None else frozenset(assets)
    return Decision(Month.parse(month), state, reason or state.value, selected, default | cells)


LOADED = {"postgres_table": Cell.LOADED, "bq_table": Cell.LOADED}
MONTHS = [
    decision("2020-11", State.CURRENT, **LOADED),
    decision("2020-12", State.UNFINISHED, "bq_table does not have it", {"bq_table"}, postgres_table=Cell.LOADED),
    decision("2021-01", State.CHANGED, postgres_table=Cell.STALE, bq_table=Cell.DIFFERS),
    decision("2021-02", State.MISSING),
    decision("2021-03", State.UNPUBLISHED, State.UNPUBLISHED.value),
]


def test_a_row_is_a_year_and_a_column_a_sink_with_twelve_marks():
    assert status.grid(MONTHS) == [
        "       postgres_table bq_table",
        "  2020           ++             +.",
        "  2021 s.-            d.-",
        "",
        "  + loaded, . missing, s of an older version, code or rules, d differs from the clean month, - not published",
    ]


def test_marks_are_colored_on_a_terminal():
    assert "\033[32m+\033[0m" in "".join(status.grid(MONTHS, color=True))


@pytest.mark.parametrize(
    ("months", "text"),
    [
        (MONTHS[:1], "A backfill of these months would load nothing."),
        (MONTHS[:2], "A backfill of these months would load bq_table of 1 month (2020-12)."),
        (
            MONTHS,
            "A backfill of these months would load 2 months from the source (2021-01 to 2021-02) and load bq_table of 1 month "
            "(2020-12).",
        ),
    ],
)
def test_the_last_line_says_what_a_backfill_would_do(months, text):
    assert status.next_backfill(months) == text


def test_the_same_for_programs():
    assert json.loads(json.dumps(status._as_json(MONTHS[1]))) == {
        "month": "2020-12",
        "state": "unfinished",
        "reason": "bq_table does not have it",
        "sinks": {"postgres_table": "loaded", "bq_table": "missing"},
        "to_load": ["bq_table"],
    }
