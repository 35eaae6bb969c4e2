"""The daily summary's SQL is the same text for both warehouses: BigQuery (its emulator) answers what DuckDB answers."""

import uuid

import pytest

from taxi_assets.datasets.schema import KINDS, TaxiKind
from taxi_assets.reports.daily_summary import as_summary, require_reconciled, summary_sql
from taxi_assets.sinks.contract import WriteContext
from taxi_assets_tests.bigquery_fixtures import BigQueryServer, bigquery_sink
from taxi_assets_tests.cleaned_months import cleaned_sample
from taxi_assets_tests.summaries import summarize


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_bigquery_and_duckdb_answer_the_same_summary(bigquery: BigQueryServer, kind: TaxiKind, tmp_path):
    month = cleaned_sample(tmp_path, kind=kind)
    sink = bigquery_sink(bigquery.endpoint)
    sink.replace(month.kind.table, bigquery.upload(month.clean), WriteContext(str(uuid.uuid4()), "token", print, {}))
    with sink._client() as client:
        query = summary_sql(month.kind, month.month, f"`{sink.project}.{sink.dataset}.{month.kind.table.name}`")
        found = as_summary(client.query(query).result().to_arrow(create_bqstorage_client=False))
    require_reconciled(month.kind, found, month.clean.manifest, month.month)
    assert found.equals(summarize(month.clean, month.kind, month.month))
