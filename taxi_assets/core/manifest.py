"""What is recorded of a month: rows, sums, first and last time, and where it came from. The one place that counts rows."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from taxi_assets.core.table import Table

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ZONE_OUTLINES = "zone_outlines"
"""In `Manifest.extra`: the SHA-256 of the outlines by which the month's coordinates got zone ids; None if they got none."""
CONTENT = ("version", "sha256", "generated", "code_version", "rules", "loaded_columns", ZONE_OUTLINES)
"""What of `Manifest.extra` decides about the rows: which published file, read by which code, cleaned by which rules."""
WHOLE_MONTH = "month"
"""In `Manifest.extra` of a day's file: the manifest of its month."""
FOOTER_KEY = b"taxi_assets"
"""Where the manifest is in a Parquet footer's metadata."""


@dataclass(frozen=True)
class Manifest:
    """What is known of a month without reading it.

    Two copies of a month are compared by `rows`, `sums` (by column), `first` and `last` time (as `2021-01-31 23:59:59`).
    `extra` holds what the writer adds (source, its version, rejected rows by reason): JSON values only.
    """

    rows: int
    sums: Mapping[str, float] = field(default_factory=dict)
    first: str | None = None
    last: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def differences(self, other: Manifest) -> list[str]:
        """The names of what differs: a sum does by more than a cent in ten million, as floats add up in any order."""
        names = [name for name in ("rows", "first", "last") if getattr(self, name) != getattr(other, name)]
        return names + [
            name
            for name, value in self.sums.items()
            if not math.isclose(value, other.sums.get(name, math.nan), rel_tol=1e-9, abs_tol=0.01)
        ]

    def contradicts(self, other: Manifest) -> bool:
        """Return whether rows, sums or times that both record differ: an older version of this package recorded less."""
        return any(None not in (self.value(name), other.value(name)) for name in self.differences(other))

    def stale(self, current: Manifest) -> list[str]:
        """Return the entries of `CONTENT` that both record and that differ: none if this is a copy of `current`."""
        mine, other = self.extra, current.extra
        return [name for name in CONTENT if name in mine and name in other and mine[name] != other[name]]

    def loaded_by(self, run_id: str) -> Manifest:
        """Return what a sink records: the month's manifest, with the run and the time (UTC)."""
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        return dataclasses.replace(self, extra={**self.extra, "run_id": run_id, "loaded_at": now})

    def value(self, name: str) -> Any:
        """What `differences` calls by this name."""
        return self.sums.get(name) if name in self.sums else getattr(self, name, None)

    def compared(self) -> dict[str, Any]:
        """What copies are compared by, for people."""
        return {"rows": self.rows, **self.sums, "first": self.first, "last": self.last}

    def to_json(self) -> str:
        """As text, for a Parquet footer, an object's metadata or a column."""
        return json.dumps(self.__dict__)

    @classmethod
    def from_footer(cls, footer: pq.FileMetaData) -> Manifest | None:
        """Read the manifest in a Parquet footer; None if another program wrote the file."""
        text = (footer.metadata or {}).get(FOOTER_KEY)
        return None if text is None else cls.from_json(text)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read what `to_json` of this or an earlier version wrote."""
        fields = json.loads(text)
        if "total_amount" in fields:
            fields["sums"] = {"total_amount": fields.pop("total_amount")}
            fields["first"], fields["last"] = fields.pop("first_pickup"), fields.pop("last_pickup")
        if "rules" in (extra := fields.get("extra", {})):
            extra.setdefault(ZONE_OUTLINES, None)
        return cls(**fields)


class RowCounter:
    """Counts and sums the batches of a month."""

    def __init__(self, table: Table, columns: Sequence[str]) -> None:
        self._time = table.time if table.time in columns else None
        self.rows = 0
        self._totals: dict[str, list[float]] = {name: [] for name in table.sums if name in columns}
        self._times: list[Any] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Count a batch."""
        import pyarrow.compute as pc

        self.rows += batch.num_rows
        for name, totals in self._totals.items():
            totals.append(pc.sum(batch.column(name)).as_py() or 0.0)
        if self._time:
            span = [time for time in pc.min_max(batch.column(self._time)).as_py().values() if time is not None]
            self._times = [min(self._times + span), max(self._times + span)] if self._times or span else []

    def manifest(self, extra: dict[str, Any] | None = None) -> Manifest:
        """What was counted."""
        sums = {name: math.fsum(totals) for name, totals in self._totals.items()}
        first, last = map(time_text, self._times or (None, None))
        return Manifest(self.rows, sums, first, last, extra or {})


def count(table: Table, batches: Iterable[pa.RecordBatch]) -> Manifest:
    """Count and sum batches; of their columns, the table's time and sums are looked at."""
    counter = RowCounter(table, compared_columns(table))
    for batch in batches:
        counter.add(batch)
    return counter.manifest()


def compared_columns(table: Table) -> list[str]:
    """The columns that are read to compare two copies of a month."""
    return [*table.sums, *([table.time] if table.time else [])]


def aggregates(table: Table, quote: str = '"') -> str:
    """The SQL expressions that measure a month: count, sums, first and last time; `from_row` reads them."""
    names = [f"{quote}{name}{quote}" for name in table.sums]
    sums = [f"coalesce(sum({name}), 0)" for name in names]
    span = [f"min({quote}{table.time}{quote})", f"max({quote}{table.time}{quote})"] if table.time else ["NULL", "NULL"]
    return ", ".join(["count(*)", *sums, *span])


def from_row(table: Table, row: Sequence[Any]) -> Manifest:
    """The manifest that a database answered to `aggregates` with."""
    rows, *sums, first, last = row
    return Manifest(rows, dict(zip(table.sums, map(float, sums), strict=True)), time_text(first), time_text(last))


def time_text(moment: Any) -> str | None:
    """A timestamp or a date as text; None for none."""
    return None if moment is None else str(moment)
