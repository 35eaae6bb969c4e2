"""Cleaning: a trip is kept, or rejected with a reason. One pass, in batches; nothing is dropped.

`rules` lists the rules; `HITS` has the condition of each.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from taxi_assets.core.manifest import ZONE_OUTLINES
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile
from taxi_assets.core.staging import stage
from taxi_assets.datasets.rules import RULES, CleaningRules
from taxi_assets.datasets.schema import REJECT_COLUMNS, TaxiKind
from taxi_assets.lake import raw_month
from taxi_assets.lake.raw_month import loaded_columns
from taxi_assets.lake.zone_ids import ZONE_ID_SCHEMA, ZoneIds
from taxi_assets.publisher.options import NewColumns

ORIGIN = ("source", "location", "version", "sha256", "published_bytes", "generated", "code_version", "columns")
"""What of a raw month's manifest is also in that of the clean month, and so in every sink's."""


@dataclass(frozen=True)
class Case:
    """The input of a rule: a batch of raw trips, their kind and month, and the settings of the rules."""

    batch: pa.RecordBatch
    kind: TaxiKind
    month: Month
    rules: CleaningRules

    def column(self, name: str) -> pa.Array:
        """A column of the batch."""
        return self.batch.column(name)

    def measured(self, name: str) -> pa.Array:
        """A column by what it is in every dataset (`Measures`)."""
        return self.column(getattr(self.kind.measures, name))

    @property
    def pickup(self) -> pa.Array:
        """When the trips began."""
        return self.column(self.kind.pickup)

    @property
    def total(self) -> pa.Array:
        """What was charged, US dollars; a part that is empty counts as nothing, and where all are empty it is null."""
        total: pa.Array | None = None
        for part in (self.column(name) for name in self.kind.measures.total):
            total = part if total is None else pc.coalesce(pc.add(total, part), total, part)
        return total

    @property
    def seconds(self) -> pa.Array:
        """How long the trips took, in seconds."""
        return pc.seconds_between(self.pickup, self.column(self.kind.dropoff))


HITS: dict[str, Callable[[Case], pa.Array]] = {
    "pickup_missing": lambda case: pc.is_null(case.pickup),
    "pickup_outside_month": lambda case: pc.or_(
        pc.less(case.pickup, case.month.start), pc.greater_equal(case.pickup, case.month.end)
    ),
    "zero_passengers": lambda case: pc.less_equal(case.measured("passengers"), pa.scalar(0, pa.int16())),
    "unknown_passengers": lambda case: pc.is_null(case.measured("passengers")),
    "negative_total": lambda case: pc.less(case.total, 0.0),
    "dropoff_before_pickup": lambda case: pc.less(case.column(case.kind.dropoff), case.pickup),
    "distance_above_maximum": lambda case: pc.greater(case.measured("distance"), case.rules.max_trip_distance),
    "negative_fare": lambda case: pc.less(case.measured("fare"), 0.0),
    "duration_above_maximum": lambda case: pc.greater(case.seconds, 3600 * (case.rules.max_trip_hours or 0)),
}
"""Which rows each rule of `RULES` hits, by its reason; null counts as no hit."""


def split(case: Case) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Divide a raw batch into clean trips (without the REJECT_COLUMNS) and rejected rows (the batch's schema, with reasons)."""
    rules = [rule for rule in RULES if rule.applies(case.rules, case.kind)]
    unreadable = pc.is_valid(case.column("reject_reason"))
    number = pa.nulls(case.batch.num_rows, pa.int8())
    for index, rule in reversed(list(enumerate(rules))):
        number = pc.if_else(pc.fill_null(HITS[rule.reason](case), False), pa.scalar(index, pa.int8()), number)
    number = pc.if_else(unreadable, pa.scalar(len(rules), pa.int8()), number)
    kept = pc.is_null(number)
    clean = case.batch.drop_columns([column.name for column in REJECT_COLUMNS]).filter(kept)
    if clean.num_rows == case.batch.num_rows:
        return clean, case.batch.slice(0, 0)
    rejected = case.batch.filter(pc.invert(kept))
    reasons = pa.array([*(rule.reason for rule in rules), None], pa.string())
    reason = pc.coalesce(rejected.column("reject_reason"), pc.take(reasons, pc.drop_null(number)))
    at = case.batch.schema.get_field_index("reject_reason")
    return clean, rejected.set_column(at, case.batch.schema.field(at), reason)


def clean_month(
    raw: MonthFile,
    kind: TaxiKind,
    rules: CleaningRules,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
    new_columns: NewColumns = "keep",
    *,
    own_rules: bool = False,
    zone_ids: ZoneIds | None = None,
) -> tuple[MonthFile, MonthFile]:
    """Clean a month in one streaming pass; return the clean trips and, as their companion, the rejected rows.

    Both are staged in `folder`, and removed on an error. Their manifests count the rows of each reason.

    Args:
        raw, kind: the month and its dataset.
        rules: what is rejected.
        folder: where files are staged.
        progress: called after each batch with the rows done and all rows.
        new_columns: with `add`, both files have the columns unknown to this version, after those of the kind.
        own_rules: whether the rules are those of this run, and not of the settings.
        zone_ids: finds the zones of the clean trips' coordinates.
    """
    reasons: Counter[str] = Counter()
    loaded = loaded_columns(kind, raw.manifest.extra, raw.schema, new_columns)
    added = [pa.field(name, type_) for name, (_, type_) in loaded.added.items()]
    zones = ZONE_ID_SCHEMA if zone_ids else ()
    with ExitStack() as stack:
        clean, rejected = (
            stack.enter_context(stage(folder, raw.month, pa.schema(fields), kind.table, f"{kind.name}-{name}"))
            for name, fields in {
                "clean": [*kind.schema, *added, *zones],
                "rejected": [*kind.raw_schema, *added],
            }.items()
        )
        for batch in raw_month.batches(kind, raw, loaded):
            good, bad = split(Case(batch, kind, raw.month, rules))
            clean.write(zone_ids.added(good) if zone_ids else good)
            rejected.write(bad)
            for pair in pc.value_counts(bad.column("reject_reason")).to_pylist():
                reasons[pair["values"]] += pair["counts"]
            if progress:
                progress(clean.rows + rejected.rows, raw.rows)
        clean.extra = rejected.extra = {
            **{name: raw.manifest.extra[name] for name in ORIGIN if name in raw.manifest.extra},
            "pair": uuid.uuid4().hex[:12],
            "cleaned_at": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
            "raw_rows": raw.rows,
            "rules": rules.model_dump(),
            "own_rules": own_rules,
            "reasons": dict(reasons),
            "loaded_columns": loaded.names(),
            **(zone_ids.recorded if zone_ids else {ZONE_OUTLINES: None}),
        }
        kept, companion = clean.close(), rejected.close()
        kept.companion = companion
        return kept, companion
