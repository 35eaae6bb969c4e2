"""dagster-gcp's BigQuery resource with the credentials of this package, for assets of other projects.

Imported only when an asset uses it: dagster-gcp takes seconds to import.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from dagster_gcp import BigQueryResource
from google.cloud import bigquery
from pydantic import Field

from taxi_assets.sinks.bigquery.client import client


class Warehouse(BigQueryResource):
    """A BigQueryResource with a key file, or at an emulator's address without credentials."""

    key_file: str | None = Field(None, description="Service account key; unset: Application Default Credentials.")
    api_endpoint: str | None = Field(None, description="An emulator's address, http://host:port.")

    @contextmanager
    def get_client(self) -> Generator[bigquery.Client]:
        """Yield a client, and close it.

        Raises:
            PermanentError: there are no credentials, or the key file is not one.
        """
        with client(self.project, self.location, self.key_file, self.api_endpoint) as opened:
            yield opened
