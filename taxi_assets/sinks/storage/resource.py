"""dagster-gcp's Cloud Storage resource with the credentials of this package, for assets of other projects.

Imported only when an asset uses it: dagster-gcp takes seconds to import.
"""

from __future__ import annotations

from dagster_gcp import GCSResource
from google.cloud import storage
from pydantic import Field

from taxi_assets.sinks.storage.gcs_bucket import client


class Storage(GCSResource):
    """A GCSResource with a key file; with STORAGE_EMULATOR_HOST set it is an emulator's, without credentials."""

    key_file: str | None = Field(None, description="Service account key; unset: Application Default Credentials.")

    def get_client(self) -> storage.Client:
        """Return a client.

        Raises:
            PermanentError: there are no credentials, or the key file is not one.
        """
        return client("Cloud Storage", self.project, self.key_file)
