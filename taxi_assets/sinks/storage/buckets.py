"""Opening the bucket that a setting names."""

from __future__ import annotations

from pathlib import Path

from taxi_assets.core.errors import PermanentError
from taxi_assets.sinks.storage.bucket import Bucket
from taxi_assets.sinks.storage.local_bucket import LocalBucket


def open_bucket(location: str, key_file: Path | str | None = None) -> Bucket:
    """The bucket at `gs://name` (with Application Default Credentials or a service account's key file) or a directory.

    Raises:
        PermanentError: the location is neither, or there are no credentials.
    """
    scheme, separator, name = location.partition("://")
    if not separator:
        return LocalBucket(Path(location))
    if scheme != "gs" or not name.strip("/") or "/" in name.strip("/"):
        raise PermanentError(
            f"The bucket {location!r} is neither a directory nor gs://name; folders belong into the object's template."
        )
    from taxi_assets.sinks.storage.gcs_bucket import GcsBucket

    return GcsBucket.connect(name.strip("/"), key_file)
