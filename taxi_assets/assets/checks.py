"""Asset checks: the assertions of the original pipeline, and that every sink has exactly the clean month.

They block: if one fails, the assets downstream are not materialized, and the run fails. Warnings are in `month_warnings`.
"""

from collections import Counter
from collections.abc import Iterable

import dagster as dg

from taxi_assets.assets.month_check import MonthCheck, Problems, define_checks
from taxi_assets.assets.month_warnings import few_trips_are_rejected
from taxi_assets.assets.raw_warnings import raw_warnings
from taxi_assets.assets.sinks import Sink, sinks
from taxi_assets.core.errors import PermanentError
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.datasets.rules import RULES, CleaningRules
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import WAREHOUSE_POOL
from taxi_assets.publisher.columns import recorded_columns
from taxi_assets.reports.daily_summary import KEY, as_summary, require_reconciled, summary_schema, summary_table
from taxi_assets.settings import Settings
from taxi_assets.sinks.several import SeveralSinks

NO_ROW_LOST = "raw_equals_clean_plus_rejected"
MATCHES = "{sink}_matches_clean"
SUMMARY_WHOLE = "daily_summary_is_in_every_sink"


def raw_has_rows(kind: TaxiKind, month: Month, raw: MonthFile) -> Problems:
    """The month has rows, most of them readable, in the canonical schema."""
    unreadable = sum(b.num_rows - b.column(0).null_count for b in raw.batches(columns=["reject_reason"]))
    new = recorded_columns(raw.manifest.extra)["new"]
    types = {field.name: field.type for field in raw.schema if field.name not in new}
    required = {column.name for column in kind.columns if column.required}
    wrong = [  # an optional column that an older version did not know may be absent
        field.name
        for field in kind.raw_schema
        if types.get(field.name, None if field.name in required else field.type) != field.type
    ]
    problems = []
    if wrong:
        problems.append(f"{month}: raw_trips has {', '.join(wrong)} missing or of another type; materialize it again.")
    if raw.rows == 0:
        problems.append(f"{month}: no rows.")
    elif unreadable > raw.rows / 2:
        problems.append(
            f"{month}: {unreadable:,} of {raw.rows:,} lines could not be read; the format may have changed."
        )
    return problems, {"rows": raw.rows, "unreadable": unreadable}


def clean_is_clean(kind: TaxiKind, month: Month, clean: MonthFile) -> Problems:
    """No trip without passengers (unless the rule was switched off), none picked up outside the month."""
    import pyarrow.compute as pc

    passengers = kind.measures.passengers
    counted: Counter[str] = Counter(pickup_outside_month=0)
    for batch in clean.batches(columns=[kind.pickup, *([passengers] if passengers else [])]):
        pickup = batch.column(kind.pickup)
        inside = pc.and_(pc.greater_equal(pickup, month.start), pc.less(pickup, month.end))
        counted["pickup_outside_month"] += batch.num_rows - (pc.sum(inside).as_py() or 0)
        if passengers:
            count = batch.column(passengers)
            counted["zero_passengers"] += pc.sum(pc.less_equal(count, 0)).as_py() or 0
            counted["unknown_passengers"] += count.null_count
    rules = CleaningRules(**clean.manifest.extra["rules"])
    rejected = {rule.reason for rule in RULES if rule.applies(rules, kind)}
    return [
        f"{month}: {rows:,} clean trips with {name}." for name, rows in counted.items() if rows and name in rejected
    ], dict(counted)


def nothing_lost(month: Month, raw: Manifest | None, clean: Manifest | None, rejected: Manifest | None) -> Problems:
    """Every raw row is in the clean or in the rejected month."""
    rows = {
        name: facts.rows if facts else 0 for name, facts in (("raw", raw), ("clean", clean), ("rejected", rejected))
    }
    problem = f"{month}: {rows['raw']:,} raw rows, but {rows['clean']:,} clean + {rows['rejected']:,} rejected."
    return [] if rows["raw"] == rows["clean"] + rows["rejected"] else [problem], rows


def same_month(month: Month, sink: str, expected: Manifest | None, found: Manifest | None) -> Problems:
    """The sink holds the clean month: rows, sum of the totals (to a cent in ten million), first and last pickup."""
    if expected is None:
        return [f"{month}: there is no clean month to compare {sink} with; materialize clean_trips."], {}
    if found is None:
        return [f"{month}: {sink} has no such month."], {}
    return [
        f"{month}: {sink} has {name} {_shown(found.value(name))}, clean_trips has {_shown(expected.value(name))}."
        for name in expected.differences(found)
    ], {"expected": expected.compared(), "found": found.compared()}


def _shown(value: object) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def summary_is_whole(kind: TaxiKind, month: Month, clean: Manifest | None, sinks: SeveralSinks) -> Problems:
    """Each place holds the same summary, which adds up to the clean month: every trip and every dollar once."""
    if clean is None:
        return [f"{month}: there is no clean month to compare the summary with; materialize clean_trips."], {}
    table, order = summary_table(kind), [(name, "ascending") for name in KEY]
    problems, held = [], {}
    for place, sink in sinks.parts.items():
        found = sink.read(table, month).to_arrow() if sink.measure(table, month) else summary_schema().empty_table()
        held[place] = as_summary(found).sort_by(order)
        try:
            require_reconciled(kind, held[place], clean, month)
        except PermanentError as error:
            problems.append(f"{place}: {error}")
    first, *others = held
    if not problems:
        problems = [
            f"{month}: {each} and {first} hold different rows." for each in others if not held[each].equals(held[first])
        ]
    return problems, {f"{place}_rows": summary.num_rows for place, summary in held.items()}


def month_checks(kind: TaxiKind, settings: Settings) -> Iterable[dg.AssetChecksDefinition]:
    """All checks of a kind of taxi, by asset."""
    lakes = ("raw_lake", "clean_lake", "rejected_lake")
    yield define_checks(
        kind,
        "raw_trips",
        {"raw_lake"},
        MonthCheck(
            "raw_has_rows_and_known_schema",
            "Fails if the published file is empty, mostly unreadable, or in columns that are not known. Look at the "
            "publisher's file before loading it.",
            lambda month, io: raw_has_rows(kind, month, io.raw_lake.read(kind.raw_table, month)),
        ),
        *raw_warnings(kind, settings),
    )
    yield define_checks(
        kind,
        "clean_trips",
        lakes,
        MonthCheck(
            "clean_keeps_only_wanted_trips",
            "Fails if a trip that the rules reject is in the clean month (no passengers, or a pickup in another month).",
            lambda month, io: clean_is_clean(kind, month, io.clean_lake.read(kind.table, month)),
        ),
        MonthCheck(
            NO_ROW_LOST,
            "Fails if a published row is neither clean nor rejected. Do not use the month; materialize it from raw_trips "
            "again.",
            lambda month, io: nothing_lost(month, *(getattr(io, lake).manifest(kind.table, month) for lake in lakes)),
        ),
        few_trips_are_rejected(kind),
    )
    for sink in sinks(settings):
        resources = {"clean_lake", sink.io_manager}
        yield define_checks(kind, sink.name, resources, _sink_check(kind, sink), pool=sink.pool)
    yield define_checks(
        kind,
        "daily_summary",
        {"clean_lake", "summary"},
        MonthCheck(
            SUMMARY_WHOLE,
            "Fails if the summary in Postgres, the bucket or the warehouse is not that of the clean month, or if they differ. "
            "Materialize daily_summary again, and bq_table before it if its check failed, too.",
            lambda month, io: summary_is_whole(kind, month, io.clean_lake.manifest(kind.table, month), io.summary),
        ),
        pool=WAREHOUSE_POOL,
    )


def _sink_check(kind: TaxiKind, sink: Sink) -> MonthCheck:
    return MonthCheck(
        MATCHES.format(sink=sink.name),
        "Fails if what is read back from the sink is not the clean month (rows, "
        f"{', '.join(f'sum of {name}' for name in kind.table.sums)}, first and last pickup). "
        "Materialize the sink's month again; if it still fails, something else writes to the sink.",
        lambda month, io: same_month(
            month,
            sink.name,
            io.clean_lake.manifest(kind.table, month),
            getattr(io, sink.io_manager).measure(kind.table, month),
        ),
    )
