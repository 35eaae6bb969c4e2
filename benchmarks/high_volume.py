"""A month of 20 million high-volume trips beside the usual month of yellow ones: `python -m benchmarks.bench --high-volume`.

Both are Parquet files in the publisher's column types (2024-10), made of generated trips, and go through the whole job: on this
machine's disk, and over the wire. What is promised: the peak of memory within a tenth of yellow's, and at most 1.2 times its time
per row and column.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.measure import Case
from benchmarks.workspace import ROWS, Workspace

MONTH = "2024-10"
HIGH_VOLUME_ROWS = 20_000_000
ROW_GROUP = 1_048_576
"""Rows of a row group in the published files."""


def measure(folder: Path, most: int | None, repeat: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The whole job on both months, `repeat` times; the fastest counts. `most`: rows of the high-volume month."""
    months = [("yellow", ROWS), ("fhvhv", most or HIGH_VOLUME_ROWS)]
    space, lines = Workspace(folder, ROWS), []
    with space.ready():
        columns = {name: make(folder / "published", name, rows, say) for name, rows in months}

        def measured(name: str, rows: int, where: str) -> None:
            space.forget()
            samples = [space.run(case(folder / "published", name)) for _ in range(repeat)]
            seconds, peak = min(sample.seconds for sample in samples), max(sample.peak for sample in samples)
            lines.append(
                {
                    "case": name,
                    "where": where,
                    "rows": rows,
                    "columns": columns[name],
                    "seconds": round(seconds, 2),
                    "peak": round(peak),
                }
            )
            say(f"{name:<8} {where:<14} {rows:>12,} {seconds:8.1f} s {peak:7.0f} MB")

        for name, rows in months:
            measured(name, rows, "disk")
        for name, rows in months:
            space.forget()
            with space.wired():
                measured(name, rows, "over the wire")
    return {**report.machine(), "lines": lines}


def case(folder: Path, name: str) -> Case:
    """The job of a dataset, from a file of the folder."""
    job = "load_month" if name == "yellow" else f"load_{name}_month"
    return Case(
        name,
        "",
        (sys.executable, "-m", "benchmarks.launch", "taxi_assets.definitions", "--job", job),
        env=(
            ("TAXI_SOURCE", f"{folder}/{{kind}}_tripdata_{{month}}.parquet"),
            ("TAXI_KINDS", name),
            ("BENCH_MONTH", MONTH),
        ),
    )


def make(folder: Path, name: str, rows: int, say: Callable[[str], None]) -> int:
    """Write a month as the publisher does, unless it is there; return the number of its columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from taxi_assets.core.month import Month
    from taxi_assets.datasets.eras import era_of
    from taxi_assets.datasets.schema import KINDS
    from taxi_assets.publisher.columns import canonical_name
    from taxi_assets.publisher.reader import open_trips
    from taxi_assets.publisher.sample import write_sample

    kind, month = KINDS[name], Month.parse(MONTH)
    era = era_of(name, "parquet", MONTH)
    assert era is not None
    target, marker = folder / f"{name}_tripdata_{MONTH}.parquet", folder / f"{name}-{rows}"
    if marker.exists():
        return len(era.header)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{name}-*"):
        old.unlink()
    say(f"making {rows:,} {name} trips")
    published = {pa.string(): pa.large_string(), pa.int16(): pa.int32()}
    names = {published_name: canonical_name(published_name, kind) for published_name in era.header}
    schema = pa.schema(
        (each, published.get(kind.schema.field(of).type, kind.schema.field(of).type)) for each, of in names.items()
    )
    csv = folder / f"{name}.csv.gz"
    write_sample(csv, kind, month, rows)
    held: list[pa.RecordBatch] = []
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:

        def flush() -> None:
            writer.write_table(pa.Table.from_batches(held, schema), row_group_size=ROW_GROUP)
            held.clear()

        for batch in open_trips(csv, kind, month).batches:
            readable = batch.filter(batch.column("reject_reason").is_null())
            arrays = [readable.column(of).cast(schema.field(each).type) for each, of in names.items()]
            held.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
            if sum(each.num_rows for each in held) >= ROW_GROUP:
                flush()
        flush()
    csv.unlink()
    marker.touch()
    return len(era.header)
