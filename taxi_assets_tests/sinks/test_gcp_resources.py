"""The resources `gcs` and `bigquery` serve assets of other projects, annotated with dagster-gcp's classes, at the emulators."""

import dagster as dg
import pytest
from dagster_gcp import BigQueryResource, GCSResource

from taxi_assets.core.errors import PermanentError
from taxi_assets.definitions import build_defs
from taxi_assets.settings import Settings
from taxi_assets.sinks.bigquery.resource import Warehouse
from taxi_assets.sinks.storage.resource import Storage
from taxi_assets_tests.bigquery_fixtures import BUCKET, PROJECT, BigQueryServer


@dg.asset
def note(gcs: GCSResource, bigquery: BigQueryResource) -> str:
    """An object in Cloud Storage, with the answer of a query."""
    with bigquery.get_client() as client:
        (row,) = client.query("SELECT 40 + 2 AS answer").result()
    gcs.get_client().bucket(BUCKET).blob("note.txt").upload_from_string(str(row.answer))
    return gcs.get_client().bucket(BUCKET).blob("note.txt").download_as_text()


def test_an_asset_uses_both_at_the_emulators(bigquery: BigQueryServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", bigquery.storage)
    defs = build_defs(Settings(bigquery_project=PROJECT, bigquery_endpoint=bigquery.endpoint))
    result = dg.materialize([note], resources={name: defs.resources[name] for name in ("gcs", "bigquery")})
    assert result.output_for_node("note") == "42"


def test_a_key_file_that_is_none_is_refused_by_both(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    key = tmp_path / "key.json"
    key.write_text("{}")
    with pytest.raises(PermanentError, match=r"not a readable service account key .*TAXI_GCP_KEY_FILE"):
        Storage(key_file=str(key)).get_client()
    with pytest.raises(PermanentError, match=r"not readable as a service account key .*TAXI_GCP_KEY_FILE"):
        Warehouse(project=PROJECT, key_file=str(key)).get_client().__enter__()
