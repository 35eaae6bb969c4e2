"""As whom BigQuery is asked: a key file, or what the machine has; the environment stays as it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.sinks.bigquery import client as bigquery_client
from taxi_assets.sinks.bigquery.io_manager import BigQueryIOManager
from taxi_assets_tests.bigquery_fixtures import PROJECT
from taxi_assets_tests.bigquery_sink_fixtures import JANUARY


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "no-gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


def test_without_credentials_the_error_says_how_to_get_some(no_credentials):
    sink = BigQueryIOManager(project=PROJECT)
    with pytest.raises(PermanentError, match="gcloud auth application-default login"):
        sink.measure(YELLOW.table, JANUARY)


def test_a_key_file_is_used_as_it_is_and_the_environment_stays_as_it_was(no_credentials, tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = "loader@taxi-test.iam.gserviceaccount.com"
    key = {"type": "service_account", "client_email": account, "private_key": pem.decode(),
           "token_uri": "http://127.0.0.1:9/token", "project_id": PROJECT}  # fmt: skip
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key))
    before = dict(os.environ)
    used = bigquery_client.client(PROJECT, "EU", str(path), None)
    assert used._credentials.service_account_email == account
    assert used.location == "EU"
    assert dict(os.environ) == before


@pytest.mark.parametrize("content", [None, "not json: hunter2", '{"private_key": "hunter2"}'])
def test_a_key_file_that_is_none_is_named_without_its_content(tmp_path, content):
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(PermanentError, match=r"key.json is not readable .* TAXI_GCP_KEY_FILE") as caught:
        bigquery_client.client(PROJECT, "US", str(path), None)
    assert "hunter2" not in str(caught.value)
