"""gcs_parquet: a month as one object, in a directory and in Google Cloud Storage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import GREEN, YELLOW
from taxi_assets.sinks.parquet_object.io_manager import ParquetObjectIOManager
from taxi_assets.sinks.storage.buckets import open_bucket
from taxi_assets_tests.months import month_of_trips
from taxi_assets_tests.sinks.bucket_contract import WRITING, BucketSinkContract

if TYPE_CHECKING:
    from taxi_assets_tests.gcs_fixtures import GcsServer

pytest_plugins = ["taxi_assets_tests.gcs_fixtures"]

JANUARY = Month(2021, 1)


class TestParquetObject(BucketSinkContract):
    name = "object"

    def test_the_objects_bytes_are_the_files(self, sink, month, location, tmp_path: Path) -> None:
        file = month()
        self.replace(sink, file)
        open_bucket(location).download("nyc/yellow_tripdata_2021-01.parquet", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == file.path.read_bytes()

    def test_what_is_told_about_the_object_is_so(self, sink, month, location) -> None:
        file = month()
        told = self.replace(sink, file)
        found = open_bucket(location).stat("nyc/yellow_tripdata_2021-01.parquet")
        assert told["dagster/uri"] == open_bucket(location).uri(found.name)
        assert told["bytes"] == found.size == file.bytes
        assert told["generation"] == str(found.generation)

    def test_facts_are_counted_from_the_data_and_not_believed(self, sink, month, location, tmp_path: Path) -> None:
        """A month whose footer says something else than its rows is found out."""
        file = month()
        told = pq.read_metadata(file.path).metadata
        few = pq.read_table(file.path).slice(0, 100).replace_schema_metadata({"taxi_assets": told[b"taxi_assets"]})
        pq.write_table(few, tmp_path / "short.parquet")
        open_bucket(location).put("nyc/yellow_tripdata_2021-01.parquet", tmp_path / "short.parquet")
        assert sink.read(YELLOW.table, JANUARY).manifest.rows == 500
        assert sink.measure(YELLOW.table, JANUARY).rows == 100

    def test_a_handle_keeps_its_generation(self, sink, month, location) -> None:
        old, new = month(), month(rows=300, seed=1)
        self.replace(sink, old)
        unread, read = sink.read(YELLOW.table, JANUARY), sink.read(YELLOW.table, JANUARY)
        assert sum(batch.num_rows for batch in read.batches()) == 500
        self.replace(sink, new)
        assert sum(batch.num_rows for batch in read.batches()) == read.rows == 500
        if location.startswith("gs://"):  # the old bytes are gone there
            with pytest.raises(
                TransientError, match=r"2021-01: gs://.* was replaced .* while it was being read; run it"
            ):
                unread.to_arrow()
        else:
            assert sum(batch.num_rows for batch in unread.batches()) == unread.rows == 500

    def test_an_object_that_is_no_parquet_file_is_said_to_be_none(self, sink, location, tmp_path: Path) -> None:
        (tmp_path / "junk").write_bytes(b"no trips at all")
        open_bucket(location).put("nyc/yellow_tripdata_2021-01.parquet", tmp_path / "junk")
        with pytest.raises(PermanentError, match=r"2021-01.parquet is not a readable Parquet file"):
            sink.measure(YELLOW.table, JANUARY)

    def test_an_object_can_be_published_again_from_its_handle(self, sink, month) -> None:
        file = month()
        self.replace(sink, file)
        self.replace(sink, sink.read(YELLOW.table, JANUARY))
        self.require(sink, file)


def test_kinds_of_taxi_do_not_meet(location: str, tmp_path: Path) -> None:
    sink = ParquetObjectIOManager(location=location, template="{kind}/{month}.parquet")
    yellow, green = (month_of_trips(tmp_path, "2021-01", rows, kind=kind) for kind, rows in ((YELLOW, 30), (GREEN, 40)))
    sink.replace(YELLOW.table, yellow, WRITING)
    sink.replace(GREEN.table, green, WRITING)
    assert sink.measure(YELLOW.table, JANUARY).rows == 30
    assert sink.measure(GREEN.table, JANUARY).rows == 40


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("trips.parquet", "lacks {month}"),
        ("{month}/{city}.parquet", "may contain {kind}, {month} and no other"),
        ("{month}{", "and no other braces"),
        ("/{month}.parquet", "cannot name an object"),
        ("../{month}.parquet", "cannot name an object"),
    ],
)
def test_a_template_that_cannot_name_months_is_refused(template: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=sentence):
        ParquetObjectIOManager(location=str(tmp_path), template=template).measure(YELLOW.table, JANUARY)


def test_a_first_upload_and_a_replacement_send_their_conditions(gcs: GcsServer, tmp_path: Path) -> None:
    """At the level of HTTP."""
    sink = ParquetObjectIOManager(location=f"gs://{gcs.new_bucket()}", template="{month}.parquet")
    file = month_of_trips(tmp_path, "2021-01", 10)
    gcs.requests.clear()
    first = sink.replace(YELLOW.table, file, WRITING)
    sink.replace(YELLOW.table, file, WRITING)
    uploads = [request.query["ifGenerationMatch"] for request in gcs.requests if request.is_change]
    assert uploads == ["0", first["generation"]]


def test_the_object_says_what_it_is(gcs: GcsServer, tmp_path: Path) -> None:
    location = f"gs://{gcs.new_bucket()}"
    sink = ParquetObjectIOManager(location=location, template="{month}.parquet")
    file = month_of_trips(tmp_path, "2021-01", 10)
    sink.replace(YELLOW.table, file, WRITING)
    blob = open_bucket(location)._bucket.get_blob("2021-01.parquet")
    assert blob.content_type == "application/vnd.apache.parquet"
    metadata = dict(blob.metadata)
    manifest = Manifest.from_json(metadata.pop("manifest"))
    assert (manifest.rows, manifest.extra["run_id"]) == (10, "run-1")
    assert metadata == {"period": "2021-01", "rows": "10", "run_id": "run-1"}


def test_size_address_and_generation_of_a_handle_read_no_trips(gcs: GcsServer, tmp_path: Path) -> None:
    """A load job names the object and reads it on the server's side; nothing passes through here."""
    sink = ParquetObjectIOManager(location=f"gs://{gcs.new_bucket()}", template="{month}.parquet")
    sink.replace(YELLOW.table, month_of_trips(tmp_path, "2021-01", 200_000), WRITING)
    handle = sink.read(YELLOW.table, JANUARY)
    gcs.requests.clear()
    assert handle.uri.endswith("/2021-01.parquet")
    assert handle.generation
    assert handle.bytes > 4 << 20
    assert gcs.requests == []
    assert handle.rows == 200_000
    assert len(handle.schema) == 25
    spans = [
        request.headers["range"].removeprefix("bytes=").split("-")
        for request in gcs.requests
        if "range" in request.headers
    ]
    assert sum(int(end) - int(start) for start, end in spans) < handle.bytes / 2, spans
