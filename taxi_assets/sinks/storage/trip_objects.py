"""Trips as objects in a bucket: named by a template, replaced whole, counted, and read back. What the bucket sinks
share."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import dagster as dg

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.lake.month_file import BATCH_ROWS, Facts, TripFile
from taxi_assets.lake.scratch import Scratch
from taxi_assets.settings import get_settings
from taxi_assets.sinks.contract import Trips, Writing
from taxi_assets.sinks.storage.buckets import Bucket, ObjectMissing, PreconditionFailed, Stat, checked_name

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

PARQUET = "application/vnd.apache.parquet"
"""Parquet's media type (IANA)."""
ATTEMPTS = 50
"""Times a writer or reader looks again when others replace the same object at the same time."""
TOLD = ("source", "version", "generated")
"""What an object's metadata repeats from the facts of the month it came from."""


class TripObject:
    """One object of trips in a bucket, of one generation: like a `TripFile`, and never a mixture of two generations.

    Size, address and generation cost nothing; rows, schema and facts read the footer; the trips are downloaded once,
    when they are first asked for, and the file goes with the handle. From a directory the file is a link to the
    object.

    Everything that reads raises TransientError when the object was replaced meanwhile.
    """

    def __init__(self, bucket: Bucket, found: Stat, month: Month) -> None:
        self.month, self.uri, self.generation, self.bytes = month, bucket.uri(found.name), found.generation, found.size
        self._bucket, self._name = bucket, found.name
        if bucket.is_local:
            _ = self.path  # costs nothing, and a replacement cannot take these trips away any more

    @cached_property
    def path(self) -> Path:
        """A local file with the object's bytes; read-only."""
        self._scratch = Scratch("object")  # goes with the handle
        path = self._scratch.folder / f"{self.month}.parquet"
        with self._explained():
            self._bucket.download(self._name, path, self.generation)
        return path

    @cached_property
    def _footer(self) -> pq.FileMetaData:
        import pyarrow.parquet as pq

        if "path" in self.__dict__:
            return pq.read_metadata(self.path)
        with (
            self._explained(),
            self._bucket.open(self._name, self.generation) as file,
            readable(file, self.uri) as parts,
        ):
            return parts.metadata

    @contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except ObjectMissing:
            raise TransientError(
                f"{self.month}: {self.uri} was replaced or removed while it was being read; run it again."
            ) from None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self._footer.num_rows

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, without metadata."""
        return self._footer.schema.to_arrow_schema().remove_metadata()

    @property
    def facts(self) -> Facts:
        """What the writer recorded. See `TripFile.facts`."""
        recorded = (self._footer.metadata or {}).get(b"taxi_assets")
        if recorded is None:
            raise PermanentError(f"{self.month}: {self.uri} was not written by taxi_assets (its footer has no facts).")
        return Facts(**json.loads(recorded))

    def batches(self, columns: list[str] | None = None, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Stream the trips in record batches of at most `rows` rows."""
        yield from TripFile(self.path, self.month).batches(columns, rows)

    def to_arrow(self) -> pa.Table:
        """Read everything; for people and small months."""
        return TripFile(self.path, self.month).to_arrow()

    def to_pandas(self) -> pd.DataFrame:
        """Read everything as a frame; for people and small months."""
        return TripFile(self.path, self.month).to_pandas()


def fill(template: str, *required: str, **parts: str) -> str:
    """An object's name from its template.

    Raises:
        PermanentError: the template lacks a required part, names another part, or gives a name no bucket can keep.
    """
    for part in required:
        if f"{{{part}}}" not in template:
            raise PermanentError(
                f"The object template {template!r} lacks {{{part}}}: every {part} would overwrite the last one."
            )
    try:
        return checked_name(template.format(**parts))
    except (KeyError, IndexError, ValueError):
        allowed = ", ".join(f"{{{part}}}" for part in parts)
        raise PermanentError(f"The object template {template!r} may contain {allowed} and no other braces.") from None


@contextmanager
def as_file(trips: Trips, kind: TaxiKind) -> Generator[TripFile]:
    """The trips as a local file: their own where there is one, else staged and removed afterwards."""
    if isinstance(trips, TripFile):
        yield trips
    elif isinstance(trips, TripObject):
        yield TripFile(trips.path, trips.month)
    else:
        from taxi_assets.lake.staging import stage

        with stage(
            get_settings().staging_folder, trips.month, trips.schema, kind.pickup, f"{kind.name}-object"
        ) as writer:
            for batch in trips.batches():
                writer.write(batch)
            writer.extra = trips.facts.extra
            file = writer.close()
        try:
            yield file
        finally:
            file.path.unlink(missing_ok=True)


def about(file: TripFile, period: str, writing: Writing) -> dict[str, str]:
    """An object's own metadata: which month (or day), how many rows, from which source, by which run."""
    extra = file.facts.extra
    told = {f"source_{name}".replace("source_source", "source"): str(extra[name]) for name in TOLD if name in extra}
    return {"period": period, "rows": str(file.rows), "run_id": writing.run_id, **told}


def replace_object(bucket: Bucket, name: str, file: TripFile, period: str, writing: Writing) -> dict[str, Any]:
    """Make the object exactly this file and return metadata about it; `period` is the month or day, for people.

    Raises:
        TransientError: others kept replacing the same object.
    """
    started = time.monotonic()
    for _ in range(ATTEMPTS):
        seen = bucket.stat(name)
        try:
            new = bucket.put(
                name,
                file.path,
                if_generation=seen.generation if seen else 0,
                metadata=about(file, period, writing),
                content_type=PARQUET,
            )
        except PreconditionFailed:
            writing.log(f"{period}: {bucket.uri(name)} was replaced by another run meanwhile; writing it again.")
            continue
        seconds = time.monotonic() - started
        writing.log(f"{period}: {file.rows:,} rows, {new.size:,} bytes, in {bucket.uri(name)} after {seconds:.1f} s.")
        return {
            "dagster/uri": bucket.uri(name),
            **link(bucket, name),
            "dagster/partition_row_count": file.rows,
            "bytes": new.size,
            "generation": str(new.generation),
            "rows_per_second": round(file.rows / max(seconds, 1e-3)),
        }
    raise TransientError(
        f"{period}: {bucket.uri(name)} keeps being replaced by other runs; run it again when they are done."
    )


def link(bucket: Bucket, name: str) -> dict[str, dg.UrlMetadataValue]:
    """Where a browser opens the object: Google asks for the reader's account; a directory has no such place."""
    if not bucket.uri().startswith("gs://"):
        return {}
    return {"link": dg.MetadataValue.url(f"https://storage.cloud.google.com/{bucket.uri(name)[len('gs://') :]}")}


def object_facts(bucket: Bucket, name: str, kind: TaxiKind) -> Facts | None:
    """Count and sum an object's rows, from its data pages; None without an object."""
    for _ in range(ATTEMPTS):
        try:
            with bucket.open(name) as file, readable(file, bucket.uri(name)) as parts:
                return counted(parts.iter_batches(BATCH_ROWS, columns=["total_amount", kind.pickup]), kind)
        except ObjectMissing:
            if bucket.stat(name) is None:
                return None
    raise TransientError(f"{bucket.uri(name)} keeps being replaced by other runs; run it again when they are done.")


def counted(batches: Iterable[pa.RecordBatch], kind: TaxiKind) -> Facts:
    """The facts of these rows, counted and summed."""
    import pyarrow.compute as pc

    rows, totals, pickups = 0, [], []
    for batch in batches:
        rows += batch.num_rows
        totals.append(pc.sum(batch.column("total_amount")).as_py() or 0.0)
        pickups += [pickup for pickup in pc.min_max(batch.column(kind.pickup)).as_py().values() if pickup is not None]
    first, last = (min(pickups), max(pickups)) if pickups else (None, None)
    return Facts(rows, math.fsum(totals), first and first.isoformat(sep=" "), last and last.isoformat(sep=" "), {})


@contextmanager
def readable(file: BinaryIO, uri: str) -> Generator[pq.ParquetFile]:
    """Read a Parquet file in parts; what is damaged is said to be so."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20) as parts:
            yield parts
    except (pa.ArrowInvalid, OSError) as error:
        if getattr(error, "errno", None):
            raise  # the disk's, not the file's
        raise PermanentError(f"{uri} is not a readable Parquet file ({error}); materialize it again.") from None
