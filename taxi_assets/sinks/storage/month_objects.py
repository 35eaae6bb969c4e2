"""Months as objects in a bucket: named by a template, replaced atomically, measured, and read back. What the bucket sinks
share."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import dagster as dg

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.manifest import Manifest, compared_columns, count
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import BATCH_ROWS, MonthFile
from taxi_assets.core.scratch import Scratch
from taxi_assets.core.table import Table
from taxi_assets.sinks.contract import ROW_COUNT, WriteContext
from taxi_assets.sinks.storage.bucket import Bucket, ObjectMissing, PreconditionFailed, Stat, checked_name

if TYPE_CHECKING:
    import pyarrow.parquet as pq

T = TypeVar("T")

PARQUET = "application/vnd.apache.parquet"
"""Parquet's media type (IANA)."""
ATTEMPTS = 50
"""Number of attempts of a writer or reader while others replace the same object at the same time."""
COPIED = ("source", "version", "generated")
"""The part of the month's manifest that people find in the object's metadata."""
MANIFEST = "manifest"
"""The object's metadata that is the month's manifest, so that a listing has those of all months."""


def object_file(bucket: Bucket, found: Stat, month: Month, staging: str) -> MonthFile:
    """One object of one generation, never a mixture of two. It is downloaded when its rows are first read.

    From a directory the file is a link to the object, created immediately without a copy, so that a replacement cannot
    remove the rows. Reading raises TransientError when the object was replaced before.
    """
    scratch, uri = Scratch(staging, "object"), bucket.uri(found.name)

    @contextmanager
    def replaced() -> Generator[None]:
        try:
            yield
        except ObjectMissing:
            raise TransientError(
                f"{month}: {uri} was replaced or removed while it was being read; run it again."
            ) from None

    def fetch() -> Path:
        path = scratch.folder / f"{month}.parquet"  # refers to `scratch`, so that the folder goes with the handle
        with replaced():
            bucket.download(found.name, path, found.generation)
        return path

    def footer() -> pq.FileMetaData:
        with replaced(), bucket.open(found.name, found.generation) as file, readable(file, uri) as parts:
            return parts.metadata

    month_file = MonthFile(fetch, month, uri=uri, generation=found.generation, bytes=found.size, footer=footer)
    if bucket.is_local:
        _ = month_file.path
    return month_file


def fill(template: str, *required: str, **parts: str) -> str:
    """An object's name from its template.

    Raises:
        PermanentError: the template lacks a required part, contains an unknown part, or produces an invalid object name.
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


def object_metadata(month_file: MonthFile, period: str, write: WriteContext) -> dict[str, str]:
    """An object's own metadata: which month (or day), how many rows, from which source, by which run."""
    extra = month_file.manifest.extra
    copied = {f"source_{name}".replace("source_source", "source"): str(extra[name]) for name in COPIED if name in extra}
    recorded = {MANIFEST: month_file.manifest.loaded_by(write.run_id).to_json()}
    return {"period": period, "rows": str(month_file.rows), "run_id": write.run_id, **copied, **recorded}


def replace_object(
    bucket: Bucket, name: str, month_file: MonthFile, period: str, write: WriteContext
) -> dict[str, Any]:
    """Replace the object with exactly this file and return metadata about it; `period` is the month or day, for display.

    The condition on the object's generation lets the client repeat the request after a lost response: an upload over
    its own first one, or over that of another writer, fails and is then retried.

    Raises:
        TransientError: others kept replacing the same object.
    """
    started = time.monotonic()

    def put() -> Stat | None:
        seen = bucket.stat(name)
        generation = seen.generation if seen else 0
        metadata = object_metadata(month_file, period, write)
        try:
            return bucket.put(name, month_file.path, if_generation=generation, metadata=metadata, content_type=PARQUET)
        except PreconditionFailed:
            write.log(f"{period}: another run replaced {bucket.uri(name)}; retrying.")
            return None

    new = _until(put, bucket.uri(name), period)
    seconds = time.monotonic() - started
    write.log(f"{period}: {month_file.rows:,} rows, {new.size:,} bytes, in {bucket.uri(name)} after {seconds:.1f} s.")
    return {
        "dagster/uri": bucket.uri(name),
        **link(bucket, name),
        ROW_COUNT: month_file.rows,
        "bytes": new.size,
        "generation": str(new.generation),
        "rows_per_second": round(month_file.rows / max(seconds, 1e-3)),
    }


def link(bucket: Bucket, name: str) -> dict[str, dg.UrlMetadataValue]:
    """The URL of the object for a browser, with a Google login; a directory has none."""
    if not bucket.uri().startswith("gs://"):
        return {}
    return {"link": dg.MetadataValue.url(f"https://storage.cloud.google.com/{bucket.uri(name)[len('gs://') :]}")}


def measure_object(bucket: Bucket, name: str, table: Table) -> Manifest | None:
    """Count and sum an object's rows, from its data pages; None without an object."""

    def measure() -> tuple[Manifest | None] | None:
        try:
            with bucket.open(name) as file, readable(file, bucket.uri(name)) as parts:
                return (count(table, parts.iter_batches(BATCH_ROWS, columns=compared_columns(table))),)
        except ObjectMissing:
            return (None,) if bucket.stat(name) is None else None

    (manifest,) = _until(measure, bucket.uri(name))
    return manifest


def months_of_objects(bucket: Bucket, template: str, kind: str) -> dict[Month, Stat]:
    """The objects that the template names, by month."""
    pattern = re.escape(fill(template, "month", kind=kind, month="MONTH")).replace("MONTH", r"(\d{4}-\d{2})", 1)
    pattern = pattern.replace("MONTH", r"\1")
    found = {}
    for each in bucket.list(fill(template, "month", kind=kind, month="MONTH").partition("MONTH")[0]):
        if match := re.fullmatch(pattern, each.name):
            found[Month.parse(match[1])] = each
    return found


def recorded_manifest(bucket: Bucket, found: Stat) -> Manifest | None:
    """What is recorded of an object: by its metadata, else in its footer. None if it was removed meanwhile.

    A Parquet file of another program has rows only.
    """
    if MANIFEST in found.metadata:
        return Manifest.from_json(found.metadata[MANIFEST])
    try:
        with bucket.open(found.name, found.generation) as file, readable(file, bucket.uri(found.name)) as parts:
            return Manifest.from_footer(parts.metadata) or Manifest(parts.metadata.num_rows)
    except ObjectMissing:
        return None


def _until(attempt: Callable[[], T | None], uri: str, period: str = "") -> T:
    """Repeat the attempt while it returns None because others replaced the object meanwhile."""
    for _ in range(ATTEMPTS):
        if (result := attempt()) is not None:
            return result
    prefix = f"{period}: " if period else ""
    raise TransientError(f"{prefix}{uri} keeps being replaced by other runs; run it again when they have finished.")


@contextmanager
def readable(file: BinaryIO, uri: str) -> Generator[pq.ParquetFile]:
    """Read a Parquet file in parts; a damaged one is a PermanentError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20) as parts:
            yield parts
    except (pa.ArrowInvalid, OSError) as error:
        if getattr(error, "errno", None):
            raise  # an I/O error of the disk, not a damaged file
        raise PermanentError(f"{uri} is not a readable Parquet file ({error}); materialize it again.") from None
