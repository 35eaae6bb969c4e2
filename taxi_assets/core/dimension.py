"""A dimension: a small table without months, such as the taxi zones. It is passed, compared and replaced as a whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taxi_assets.core.manifest import Manifest
from taxi_assets.core.table import Table

if TYPE_CHECKING:
    import pyarrow as pa

IDENTITY = ("sha256", "generated", "code_version")
"""What of `Manifest.extra` identifies a dimension: which file, read by which code."""


@dataclass(frozen=True)
class Dimension:
    """All rows of a table without a time column, and what is recorded of them."""

    rows: pa.Table
    manifest: Manifest

    @classmethod
    def of(cls, table: Table, rows: pa.Table, recorded: Manifest | Mapping[str, Any]) -> Dimension:
        """Return the rows with the columns of `table`, in the order of its key; `recorded` is their manifest, or its `extra`.

        A column that `rows` lack, because an older version wrote them, is null.
        """
        for column in table.columns:
            if column.name not in rows.column_names:
                rows = rows.append_column(column.name, [[None] * rows.num_rows])
        rows = rows.select(table.names).cast(table.schema).sort_by([(name, "ascending") for name in table.key])
        manifest = recorded if isinstance(recorded, Manifest) else Manifest(rows.num_rows, extra=dict(recorded))
        return cls(rows, manifest)

    @property
    def generated(self) -> bool | None:
        """Whether the rows are generated; None if that was not recorded."""
        return self.manifest.extra.get("generated")

    def same_as(self, other: Dimension) -> bool:
        """Return whether this is a copy of `other`: the same rows of the same file, read by the same code."""
        mine, its = self.manifest.extra, other.manifest.extra
        return self.rows.equals(other.rows) and all(mine.get(name) == its.get(name) for name in IDENTITY)

    def digest(self) -> str:
        """Return the SHA-256 of the rows."""
        return hashlib.sha256(json.dumps(self.rows.to_pylist(), default=str).encode()).hexdigest()
