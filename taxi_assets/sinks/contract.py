"""The contract of every sink: a partition is a month, and writing it replaces exactly that month, whole or not at all.

A sink says how one month is replaced and read back; this module does what is common: Dagster's contexts, several months in
one run, the types an asset may return and a reader may ask for, metadata.
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.failures import explained
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import KINDS, TaxiKind
from taxi_assets.lake.month_file import BATCH_ROWS, Facts, TripFile, Trips
from taxi_assets.settings import get_settings

__all__ = ["KIND_METADATA", "MonthIOManager", "Trips", "Writing", "kind_of", "sql_to_paste"]

Part = TypeVar("Part", Month, dt.date)
"""What a partition is: a month, or a day of one."""
Given = TypeVar("Given")
"""What is given for it."""
KIND_METADATA = "taxi_kind"
"""Every asset's definition metadata names its kind of taxi under this key."""


@dataclass(frozen=True)
class Writing:
    """Who writes, and where to tell about progress: `log` takes one line for people, `token` is unique to this attempt."""

    run_id: str
    token: str
    log: Callable[[str], None]
    tags: Mapping[str, str]


class MonthIOManager(dg.ConfigurableIOManager, ABC):
    """A sink that keeps months of trips. Subclasses implement `replace`, `read_facts` and `read`."""

    @abstractmethod
    def replace(self, kind: TaxiKind, trips: Trips, writing: Writing) -> Mapping[str, Any]:
        """Make the sink's month `trips.month` exactly `trips`, whole or not at all, and return metadata about it.

        Raises:
            TransientError, PermanentError: the month is as it was before.
        """

    @abstractmethod
    def read_facts(self, kind: TaxiKind, month: Month) -> Facts | None:
        """Count and sum the month as the sink holds it now, by asking the sink; None when it has no such month."""

    @abstractmethod
    def read(self, kind: TaxiKind, month: Month) -> Trips:
        """The month as the sink holds it.

        Raises:
            PermanentError: the sink has no such month.
        """

    def where(self, kind: TaxiKind, month: Month) -> str:  # noqa: ARG002
        """Where the sink has the month, for people."""
        return ""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Publish every month of the run's partitions, each on its own, in order."""
        kind = kind_of(context)
        months = {Month.parse(key): key for key in context.asset_partition_keys}
        given = ((trips.month, trips) for trips in months_in(obj, kind, list(months)))

        def replace(_: Month, trips: Trips, writing: Writing) -> Mapping[str, Any]:
            told = {**origin(trips), **preview(trips)}  # looked at first: replacing may move the file
            return {**told, **self.replace(kind, trips, writing)}

        publish(context, months, given, replace)

    def load_input(self, context: dg.InputContext) -> Any:
        """Load the months that the reader's annotation asks for: a handle by default, a table or a frame on request."""
        return load(context, lambda kind, key: self.read(kind, Month.parse(key)))


def publish(
    context: dg.OutputContext,
    expected: Mapping[Part, str],
    given: Iterable[tuple[Part, Given]],
    replace: Callable[[Part, Given, Writing], Mapping[str, Any]],
) -> None:
    """Replace every month or day of a run by what is given for it, each on its own, in the order given.

    `expected` are the run's months or days with their partition keys, `replace` returns metadata for the one it replaced.
    """
    asset, done = context.asset_key.to_user_string(), set()
    with explained(f"{asset} {', '.join(map(str, expected))}"):
        for part, trips in given:
            if part not in expected:
                raise PermanentError(f"{asset} was given {part}, which is not in this run.")
            writing = Writing(context.run_id, uuid.uuid4().hex[:12], context.log.info, context.step_context.run_tags)
            started = time.monotonic()
            metadata = {**replace(part, trips, writing), "seconds": round(time.monotonic() - started, 3)}
            if len(expected) == 1:
                context.add_output_metadata(metadata)
            else:  # a range run would put the same metadata on every partition
                context.step_context.add_asset_metadata(
                    metadata, asset_key=context.asset_key, partition_key=expected[part]
                )
            done.add(part)
        if missing := [str(part) for part in expected if part not in done]:
            raise PermanentError(f"{asset} got nothing for {', '.join(missing)}.")


def load(context: dg.InputContext, read: Callable[[TaxiKind, str], Trips]) -> Any:
    """What the run's partitions hold, by `read` of a partition's key, as the reader's annotation asks for it."""
    kind = kind_of(context.upstream_output) if context.upstream_output else KINDS["yellow"]
    with explained(f"reading {context.asset_key.to_user_string()}"):
        loaded = [read(kind, key) for key in context.asset_partition_keys]
    return as_asked(context, loaded)


def as_asked(context: dg.InputContext, loaded: Sequence[Trips]) -> Any:
    """What was loaded as the reader's annotation asks for it: one table or frame of all, else the handle or handles."""
    import pyarrow as pa

    wanted = context.dagster_type.typing_type
    if wanted is pa.Table:
        return pa.concat_tables([trips.to_arrow() for trips in loaded])
    if getattr(wanted, "__module__", "").startswith("pandas") and getattr(wanted, "__name__", "") == "DataFrame":
        return pa.concat_tables([trips.to_arrow() for trips in loaded]).to_pandas()
    return loaded[0] if len(loaded) == 1 else loaded


def kind_of(context: dg.OutputContext | Any) -> TaxiKind:
    """The kind of taxi whose asset this is, from the asset's definition metadata."""
    name = (context.definition_metadata or {}).get(KIND_METADATA, "yellow")
    return KINDS[getattr(name, "value", name)]


def months_in(obj: Any, kind: TaxiKind, expected: list[Month]) -> Iterator[Trips]:
    """The months in what an asset returned: a handle, an iterable of handles, or one month's table or frame."""
    import pyarrow as pa

    if isinstance(obj, Trips):
        yield obj
    elif isinstance(obj, pa.Table) or type(obj).__name__ == "DataFrame":
        if len(expected) != 1:
            raise PermanentError("A table or frame holds one month; return one handle a month in a run over several.")
        yield from _staged(obj, kind, expected[0])
    elif isinstance(obj, Iterable) and not isinstance(obj, (str, bytes, Mapping)):
        for item in obj:
            yield from months_in(item, kind, expected)
    else:
        raise PermanentError(
            f"An asset that is kept by month returned {type(obj).__name__}; return trips, a pyarrow.Table or "
            "a pandas.DataFrame."
        )


def _staged(obj: Any, kind: TaxiKind, month: Month) -> Iterator[TripFile]:
    """Write a person's table or frame as a staged file, and remove it when it has been published."""
    import pyarrow as pa

    from taxi_assets.lake.staging import stage

    table = obj if isinstance(obj, pa.Table) else pa.Table.from_pandas(obj, preserve_index=False)
    if missing := set(kind.schema.names) - set(table.column_names):
        raise PermanentError(f"{month}: the frame lacks {', '.join(sorted(missing))}.")
    names = kind.raw_schema.names if "reject_reason" in table.column_names else kind.schema.names
    schema = pa.schema([kind.raw_schema.field(name) for name in names])
    with stage(get_settings().staging_folder, month, schema, kind.pickup, "frame") as writer:
        for batch in table.select(names).cast(schema).to_batches(max_chunksize=BATCH_ROWS):
            writer.write(batch)
        file = writer.close()
    try:
        yield file
    finally:
        Path(file.path).unlink(missing_ok=True)


def sql_to_paste(table: str, kind: TaxiKind, month: Month) -> dg.MarkdownMetadataValue:
    """A query of the month to begin with; it prunes to the month. `table` is written as the database wants it."""
    return dg.MetadataValue.md(
        f"```sql\nSELECT *\nFROM {table}\nWHERE {kind.pickup} >= '{month.start:%Y-%m-%d}'\n"
        f"  AND {kind.pickup} < '{month.end:%Y-%m-%d}'\nLIMIT 100;\n```"
    )


def origin(trips: Trips) -> dict[str, str]:
    """The source and the version of the published file that the trips come from, where they are known."""
    return {name: trips.facts.extra[name] for name in ("source", "version") if name in trips.facts.extra}


def preview(trips: Trips, rows: int = 10) -> dict[str, Any]:
    """The first ten rows as a table for the UI; of a local file only, for a preview is not worth a download."""
    batch = next(trips.batches(rows=rows), None) if isinstance(trips, TripFile) else None
    if batch is None or not batch.num_rows:
        return {}
    names = batch.schema.names
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    for row in batch.slice(0, rows).to_pylist():
        lines.append(" | ".join("" if value is None else str(value).replace("|", "\\|") for value in row.values()))
    return {"preview": dg.MetadataValue.md("\n".join(f"| {line} |" for line in lines))}
