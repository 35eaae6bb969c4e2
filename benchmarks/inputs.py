"""The intermediate files that single parts are measured on, made by the product itself: `python -m benchmarks.inputs`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MONTH = os.environ.get("BENCH_MONTH", "2021-01")
INPUTS = Path(os.environ.get("BENCH_INPUTS", "."))
SCRATCH = Path(os.environ.get("BENCH_SCRATCH", "."))

PUBLISHED = INPUTS / f"yellow_tripdata_{MONTH}.csv.gz"
PARTS = INPUTS / "parts"
CSV, RAW, CLEAN, BINARY = (PARTS / name for name in ("month.csv", "raw.parquet", "clean.parquet", "clean.copy"))


def main() -> None:
    """Make the files that are not there yet."""
    from isal import igzip
    from pgpq import ArrowToPostgresBinaryEncoder

    from taxi_assets.core.month import Month
    from taxi_assets.core.staging import stage
    from taxi_assets.datasets.rules import CleaningRules
    from taxi_assets.datasets.schema import KINDS
    from taxi_assets.lake.cleaning import clean_month
    from taxi_assets.publisher.reader import open_trips

    if BINARY.exists():
        return
    PARTS.mkdir(exist_ok=True)
    kind, month = KINDS["yellow"], Month.parse(MONTH)
    with igzip.open(PUBLISHED) as source, CSV.open("wb") as target:
        shutil.copyfileobj(source, target, 4 << 20)
    with stage(PARTS, month, kind.raw_schema, kind.table, "raw", "lz4") as writer:
        for batch in open_trips(PUBLISHED, kind, month).batches:
            writer.write(batch)
        writer.extra = {"source": "benchmark", "location": "benchmark", "version": "1", "generated": True}
        raw = writer.close()
    clean, rejected = clean_month(raw, kind, CleaningRules(), PARTS)
    rejected.path.unlink()
    encoder, staged = ArrowToPostgresBinaryEncoder(kind.schema), BINARY.with_suffix(".new")
    with staged.open("wb") as target:
        target.write(encoder.write_header())
        for batch in clean.batches():
            target.write(encoder.write_batch(batch))
        target.write(encoder.finish())
    raw.path.replace(RAW)
    clean.path.replace(CLEAN)
    staged.replace(BINARY)


if __name__ == "__main__":
    main()
