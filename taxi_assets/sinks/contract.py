"""The contract of every sink: a partition is a month, and writing it replaces exactly that month, atomically.

A sink replaces, measures and reads one month of a table. This module has the common part: Dagster's contexts, several
months in one run, the types an asset may return and a reader may annotate, metadata.
"""

from __future__ import annotations

import datetime as dt
import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import dagster as dg
from pydantic import Field

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.failures import explained
from taxi_assets.core.folders import default_staging
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import BATCH_ROWS, MonthFile, frame_of
from taxi_assets.core.staging import stage
from taxi_assets.core.table import Column, Table
from taxi_assets.sinks.types import conformed

TABLE_METADATA = "taxi_assets/table"
"""Definition metadata of an asset that is kept in a sink: its table, but for the columns, which are its column schema."""
COLUMN_SCHEMA = "dagster/column_schema"
ROW_COUNT = "dagster/partition_row_count"
"""Metadata of a materialization: its rows, which Dagster plots."""

PARTITION_TAGS = ("dagster/partition", "dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
"""Run tags with the partition keys that were requested."""

Part = TypeVar("Part", Month, dt.date)
"""What a partition is: a month, or a day of one."""
Value = TypeVar("Value")
"""What an asset returned for it."""


@dataclass(frozen=True)
class WriteContext:
    """The writer: the run and its tags, a `token` unique to this attempt, and `log`, which takes one line."""

    run_id: str
    token: str
    log: Callable[[str], None]
    tags: Mapping[str, str]


class MonthSink(ABC):
    """A sink that keeps months of tables. Subclasses implement `replace`, `measure` and `read`.

    `kind`: the tag of the technology, for the UI.
    """

    kind: ClassVar[str] = ""
    is_database: ClassVar[bool] = False
    """Whether tables and frames are kept in a database's types (`sinks.types`), and not in their own."""
    staging: str

    @abstractmethod
    def replace(self, table: Table, month_file: MonthFile, write: WriteContext) -> Mapping[str, Any]:
        """Replace the sink's month with exactly `month_file`, atomically, and return metadata about it.

        Raises:
            TransientError, PermanentError: the month is unchanged.
        """

    @abstractmethod
    def measure(self, table: Table, month: Month) -> Manifest | None:
        """Count and sum the month by querying the sink; None if the sink does not have it."""

    @abstractmethod
    def manifests(self, table: Table) -> dict[Month, Manifest]:
        """Return what is recorded of each month that the sink has, in a number of requests that does not grow with the months.

        The record is written with the data, so that it cannot disagree with them. Months that an older version of this
        package loaded are described as far as that version recorded them.
        """

    def manifest(self, table: Table, month: Month) -> Manifest | None:
        """Return what is recorded of one month; None if the sink does not have it."""
        return self.manifests(table).get(month)

    @abstractmethod
    def read(self, table: Table, month: Month) -> MonthFile:
        """The month as the sink holds it.

        Raises:
            PermanentError: the sink has no such month.
        """

    def where(self, table: Table, month: Month) -> str:  # noqa: ARG002
        """The location of the month in the sink, for display."""
        return ""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Publish every month of the run's partitions, each on its own, in order."""
        table = table_of(context)
        months = {
            month: month.key for month in requested_months(context.step_context.run_tags, context.asset_partition_keys)
        }
        files = months_in(obj, table, list(months), Path(self.staging), conform=self.is_database)
        values = ((month_file.month, month_file) for month_file in files)

        def replace(_: Month, month_file: MonthFile, write: WriteContext) -> Mapping[str, Any]:
            # before the file is moved
            about = {**month_file.manifest.sums, **origin(month_file), **preview(month_file)}
            own = table if table.columns else table.with_columns_of(month_file.schema)
            return {**about, **self.replace(own, month_file, write)}

        publish(context, months, values, replace)

    def load_input(self, context: dg.InputContext) -> Any:
        """Load the months as the type that the reader annotates: a handle by default, or a table or data frame."""
        return load(context, lambda table, key: self.read(table, Month.parse(key)))


class ConfigurableSink(MonthSink, dg.ConfigurableIOManager):
    """A sink whose fields are Dagster config."""

    staging: str = Field(default_factory=default_staging, description="Folder for files that are not published yet.")


def requested_months(tags: Mapping[str, str], keys: Iterable[str]) -> list[Month]:
    """Return the months of a run with these tags and partition keys.

    Dagster accepts keys that are none: it reads `2021-1-01` as 2021-01-01, runs that month, and records it under the wrong key.

    Raises:
        dagster.Failure: a key is not the first day of a month, as 2021-01-01.
    """
    requested = [tags[name] for name in PARTITION_TAGS if name in tags]
    with explained("The run"):
        for key in (*requested, *keys):
            if not re.fullmatch(r"\d{4}-\d{2}-01", key):
                raise PermanentError(f"{key!r} is not a partition; the month of January 2021 is 2021-01-01.")
        return [Month.parse(key) for key in keys]


def publish(
    context: dg.OutputContext,
    expected: Mapping[Part, str],
    values: Iterable[tuple[Part, Value]],
    replace: Callable[[Part, Value, WriteContext], Mapping[str, Any]],
) -> None:
    """Replace every month or day of a run by its value, each on its own, in the order of the values.

    `expected` are the run's months or days with their partition keys, `replace` returns metadata for the one it replaced.
    """
    asset, done = context.asset_key.to_user_string(), set()
    with explained(f"{asset} {', '.join(map(str, expected))}"):
        for part, value in values:
            if part not in expected:
                raise PermanentError(f"{asset} returned {part}, which is not in this run.")
            write = WriteContext(context.run_id, uuid.uuid4().hex[:12], context.log.info, context.step_context.run_tags)
            started = time.monotonic()
            metadata = {**replace(part, value, write), "seconds": round(time.monotonic() - started, 3)}
            if len(expected) == 1:
                context.add_output_metadata(metadata)
            else:  # a range run would put the same metadata on every partition
                context.step_context.add_asset_metadata(
                    metadata, asset_key=context.asset_key, partition_key=expected[part]
                )
            done.add(part)
        if missing := [str(part) for part in expected if part not in done]:
            raise PermanentError(f"{asset} returned nothing for {', '.join(missing)}.")


def load(context: dg.InputContext, read: Callable[[Table, str], MonthFile]) -> Any:
    """Read the run's partitions with `read`, which takes a partition key, as the type that the reader annotates."""
    assert context.upstream_output is not None
    table = table_of(context.upstream_output)
    with explained(f"reading {context.asset_key.to_user_string()}"):
        loaded = [read(table, key) for key in context.asset_partition_keys]
    return as_annotated(context, loaded)


def as_annotated(context: dg.InputContext, loaded: Sequence[MonthFile]) -> Any:
    """The months as the type that the reader annotates: one table or data frame of all, else the handle or handles."""
    import pyarrow as pa

    as_frame = wants_frame(context)
    if context.dagster_type.typing_type is not pa.Table and not as_frame:
        return loaded[0] if len(loaded) == 1 else loaded
    try:  # months may have different columns
        table = pa.concat_tables([month_file.to_arrow() for month_file in loaded], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        months = ", ".join(str(month_file.month) for month_file in loaded)
        raise PermanentError(f"{months} cannot be read as one table ({error}); read them month by month.") from None
    return frame_of(table) if as_frame else table


def wants_frame(context: dg.InputContext) -> bool:
    """Whether the reader annotates a pandas data frame."""
    annotation = context.dagster_type.typing_type
    return getattr(annotation, "__module__", "").startswith("pandas") and annotation.__name__ == "DataFrame"


def table_metadata(table: Table) -> dict[str, Any]:
    """Definition metadata of the asset that is kept as this table."""
    about = {name: value for name in _PLAIN if (value := getattr(table, name))}
    columns = column_schema(table.columns, required=bool(table.key))
    return {TABLE_METADATA: dg.MetadataValue.json(about), COLUMN_SCHEMA: columns}


def table_of(context: dg.OutputContext) -> Table:
    """The table of the context's asset, from the asset's definition metadata.

    An asset without `table_metadata` has a table named like the asset; `partition_expr`, as in Dagster's database IO
    managers, names the time column.
    """
    metadata = {name: getattr(value, "value", value) for name, value in (context.definition_metadata or {}).items()}
    about = {"name": "_".join(context.asset_key.path), "time": metadata.get("partition_expr")}
    about |= metadata.get(TABLE_METADATA, {})
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in about.items()}
    columns = metadata[COLUMN_SCHEMA].columns if COLUMN_SCHEMA in metadata else ()
    fields["columns"] = tuple(Column(c.name, c.type, c.description or "", not c.constraints.nullable) for c in columns)
    return Table(**fields)


_PLAIN = ("name", "time", "sums", "kind", "day", "description", "key", "clustering")


def column_schema(columns: Iterable[Column], *, required: bool = False) -> dg.TableSchema:
    """The columns with their meaning and units, for the UI; with `required`, required ones are not nullable."""

    def column(c: Column) -> dg.TableColumn:
        constraints = dg.TableColumnConstraints(nullable=not (required and c.required))
        return dg.TableColumn(c.name, c.type, description=c.description, constraints=constraints)

    return dg.TableSchema([column(c) for c in columns])


def months_in(
    obj: Any, table: Table, expected: list[Month], staging: Path, *, conform: bool = False
) -> Iterator[MonthFile]:
    """The months in what an asset returned: a handle, one month's table or frame, or an iterable of handles or of pairs of a
    month and its table or frame. `conform`: tables and frames get types that databases keep."""
    import pyarrow as pa

    if isinstance(obj, MonthFile):
        yield obj
    elif isinstance(obj, tuple) and len(obj) == 2 and isinstance(obj[0], Month):
        yield from _staged(obj[1], table, obj[0], staging, conform)
    elif isinstance(obj, pa.Table) or type(obj).__name__ == "DataFrame":
        if len(expected) != 1:
            raise PermanentError("A table or frame holds one month; return (month, frame) pairs in a run over several.")
        yield from _staged(obj, table, expected[0], staging, conform)
    elif isinstance(obj, Iterable) and not isinstance(obj, (str, bytes, Mapping)):
        for item in obj:
            yield from months_in(item, table, expected, staging, conform=conform)
    else:
        raise PermanentError(
            f"An asset that is kept by month returned {type(obj).__name__}; return a MonthFile, a pyarrow.Table or a "
            "pandas.DataFrame."
        )


def _staged(obj: Any, table: Table, month: Month, staging: Path, conform: bool) -> Iterator[MonthFile]:
    """Write a table or frame as a staged file, and remove it when it has been published."""
    import pyarrow as pa

    rows = obj if isinstance(obj, pa.Table) else pa.Table.from_pandas(obj, preserve_index=False)
    if missing := set(table.names) - set(rows.column_names):
        raise PermanentError(f"{month}: the table or frame has no column {', '.join(sorted(missing))}.")
    if table.columns:
        rows = rows.select(table.names).cast(table.schema)
    elif conform:
        rows = conformed(rows, month, table.name)
    with stage(staging, month, rows.schema, table, "frame") as writer:
        for batch in rows.to_batches(max_chunksize=BATCH_ROWS):
            writer.write(batch)
        month_file = writer.close()
    try:
        yield month_file
    finally:
        Path(month_file.path).unlink(missing_ok=True)


def example_query(name: str, table: Table, month: Month) -> dg.MarkdownMetadataValue:
    """A query of the month to begin with; it prunes to the month. `name` is the table as the database quotes it."""
    return dg.MetadataValue.md(
        f"```sql\nSELECT *\nFROM {name}\nWHERE {table.time} >= '{month.start:%Y-%m-%d}'\n"
        f"  AND {table.time} < '{month.end:%Y-%m-%d}'\nLIMIT 100;\n```"
    )


def origin(month_file: MonthFile) -> dict[str, str]:
    """The source and the version of the published file that the rows come from, where they are known."""
    extra = month_file.manifest.extra
    return {name: extra[name] for name in ("source", "version") if name in extra}


def preview(month_file: MonthFile, rows: int = 10) -> dict[str, Any]:
    """The first ten rows as a table for the UI; not of an object in a bucket, for a preview is not worth a download."""
    batch = next(month_file.batches(rows=rows), None) if not month_file.uri else None
    if batch is None or not batch.num_rows:
        return {}
    names = batch.schema.names
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    for row in batch.slice(0, rows).to_pylist():
        lines.append(" | ".join("" if value is None else str(value).replace("|", "\\|") for value in row.values()))
    return {"preview": dg.MetadataValue.md("\n".join(f"| {line} |" for line in lines))}
