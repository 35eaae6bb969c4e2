"""Cleaning: a trip is kept, or rejected with a reason. One pass, in batches; nothing is dropped.

`rules` lists the rules; `HITS` has the condition of each.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
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
from taxi_assets.lake.zone_ids import ZoneIds, zone_id_fields
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


def _outside(case: Case) -> pa.Array:
    start, end = (pa.scalar(moment, case.pickup.type) for moment in (case.month.start, case.month.end))
    return pc.or_(pc.less(case.pickup, start), pc.greater_equal(case.pickup, end))


HITS: dict[str, Callable[[Case], pa.Array]] = {
    "pickup_missing": lambda case: pc.is_null(case.pickup),
    "pickup_outside_month": _outside,
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


@dataclass(frozen=True)
class Cleaned:
    """The two outcomes of a month, staged, which the lake publishes together, and how many rows each reason hit."""

    clean: MonthFile
    rejected: MonthFile
    reasons: dict[str, int] = field(default_factory=dict)


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
) -> Cleaned:
    """Clean a month in one streaming pass.

    `progress(done, total)` is called after each batch with rows. Both files are staged in `folder`; on an error both are
    removed. With `add` both also have the columns unknown to this version, after those of the kind. `own_rules`: the rules
    are those of this run, and not of the settings. With `zone_ids` the clean trips also have the zones of their coordinates.
    """
    reasons: Counter[str] = Counter()
    done = 0
    loaded = loaded_columns(kind, raw.manifest.extra, raw.schema, new_columns)
    added = [pa.field(name, type_) for name, (_, type_) in loaded.added.items()]
    zones = zone_id_fields() if zone_ids else []
    with ExitStack() as stack:
        clean, rejected = (
            stack.enter_context(stage(folder, raw.month, pa.schema(fields), kind.table, f"{kind.name}-{name}"))
            for fields, name in (
                ([*kind.schema, *added, *zones], "clean"),
                ([*kind.raw_schema, *added], "rejected"),
            )
        )
        for batch in raw_month.batches(kind, raw, loaded):
            good, bad = split(Case(batch, kind, raw.month, rules))
            clean.write(zone_ids.added(good) if zone_ids else good)
            rejected.write(bad)
            for pair in pc.value_counts(bad.column("reject_reason")).to_pylist():
                reasons[pair["values"]] += pair["counts"]
            done += batch.num_rows
            if progress:
                progress(done, raw.rows)
        origin = {name: raw.manifest.extra[name] for name in ORIGIN if name in raw.manifest.extra}
        decided = {
            "pair": uuid.uuid4().hex[:12],
            "cleaned_at": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
            "raw_rows": raw.rows,
            "rules": rules.model_dump(),
            "own_rules": own_rules,
            "reasons": dict(reasons),
            "loaded_columns": loaded.names(),
            **(zone_ids.recorded if zone_ids else {ZONE_OUTLINES: None}),
        }
        clean.extra = rejected.extra = {**origin, **decided}
        cleaned = Cleaned(clean.close(), rejected.close(), dict(reasons))
        cleaned.clean.companion = cleaned.rejected
        return cleaned
