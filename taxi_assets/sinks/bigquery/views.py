"""Views in a BigQuery dataset."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from google.api_core.retry import Retry
from google.cloud import bigquery

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.view import View
from taxi_assets.sinks.bigquery.client import REQUEST_SECONDS, explained, find_table
from taxi_assets.sinks.bigquery.table import SQL_TYPES
from taxi_assets.sinks.views import ViewPlace


@dataclass(frozen=True)
class BigQueryViews(ViewPlace):
    """Keeps views in a dataset, `project.dataset`."""

    dataset: str
    connect: Callable[[], bigquery.Client]
    retry: Retry

    def replace(self, views: Sequence[View]) -> list[str]:
        """By one statement each."""
        with explained(f"views of {self.dataset}"), self.connect() as client:
            return [view.name for view in views if self._replace(client, view)]

    def _replace(self, client: bigquery.Client, view: View) -> bool:
        where = f"{self.dataset}.{view.name}"
        names = [f"{self.dataset}.{table.name}" for table, _ in view.parts]
        tables = [found for name in names if (found := find_table(client, name, self.retry))]
        existing = {found.table_id: [field.name for field in found.schema] for found in tables}
        query = view.over(existing).select(SQL_TYPES, lambda table: f"`{self.dataset}.{table.name}`")
        found = find_table(client, where, self.retry)
        if not query or (found and found.view_query == query):
            return False
        if found and found.table_type != "VIEW":
            raise PermanentError(f"{where} is not a view: rename it, or name another dataset in TAXI_DATASET.")
        statement = f"CREATE OR REPLACE VIEW `{where}` OPTIONS (description = {json.dumps(view.description)}) AS\n"
        client.query(statement + query, retry=self.retry, timeout=REQUEST_SECONDS).result()
        return True
