"""A bucket of Google Cloud Storage, through google-cloud-storage.

Imported only when a bucket is `gs://…`: the client takes a second to import. dagster-gcp's GCSResource is not used here:
it only calls `storage.Client(project=…)`, without a key file; `resource` has one for other projects.

Every upload has a CRC32C, which Google verifies before it stores the object and the client compares again; downloads are
verified likewise. After errors, requests are repeated only when a precondition makes the repetition safe.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY
from google.oauth2 import service_account

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.sinks.storage.bucket import Bucket, ObjectMissing, PreconditionFailed, Stat, checked_name

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
EMULATOR = "STORAGE_EMULATOR_HOST"
"""google-cloud-storage's own variable: where it is set, requests go there, without credentials."""
UPLOAD_CHUNK = 8 << 20
"""Bytes of a large upload held at a time; smaller objects go in one request."""
READ_CHUNK = 1 << 20
"""Bytes fetched at least when parts of an object are read."""
TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and to wait for an answer."""
PATIENCE = 60.0
"""Seconds a request is repeated while the server is unreachable or busy."""
_KNOWN = (
    api.GoogleAPIError,
    auth.GoogleAuthError,
    requests.RequestException,
    ConnectionError,
    DataCorruption,
    InvalidResponse,
)


class GcsBucket(Bucket):
    """A bucket by its name."""

    def __init__(self, client: storage.Client, name: str) -> None:
        self._bucket = client.bucket(name)
        self._retry = DEFAULT_RETRY.with_timeout(PATIENCE).with_delay(initial=0.3, maximum=15.0)

    @classmethod
    def connect(cls, name: str, key_file: Path | str | None = None) -> GcsBucket:
        """The bucket, with a service account's key file or else Application Default Credentials.

        Raises:
            PermanentError: there are no credentials, or the key file is not one.
        """
        return cls(client(f"gs://{name}", None, key_file), name)

    def uri(self, name: str = "") -> str:
        """`gs://bucket/name`."""
        return f"gs://{self._bucket.name}/{name}"

    def put(
        self,
        name: str,
        path: Path,
        *,
        if_generation: int | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> Stat:
        """See `Bucket.put`. Beyond 8 MiB the upload is resumable, and finalized with its last chunk."""
        blob = self._bucket.blob(checked_name(name), chunk_size=UPLOAD_CHUNK)
        blob.metadata = dict(metadata or {})
        with self._explained(name):
            blob.upload_from_filename(
                str(path),
                content_type=content_type or "application/octet-stream",
                if_generation_match=if_generation,
                checksum="crc32c",
                crc32c_checksum_value=_crc32c(path),
                timeout=TIMEOUT,
                retry=self._safe(if_generation),
            )
        return _stat(blob)

    def stat(self, name: str) -> Stat | None:
        """See `Bucket.stat`."""
        with self._explained(name):
            blob = self._bucket.get_blob(checked_name(name), timeout=TIMEOUT, retry=self._retry)
        return _stat(blob) if blob else None

    def open(self, name: str, generation: int | None = None) -> BinaryIO:
        """See `Bucket.open`: parts are fetched as they are read, a megabyte at least."""
        found = self.stat(name)
        if found is None or generation not in (None, found.generation):
            raise ObjectMissing(f"{name} of generation {generation}")

        def fetch(first: int, last: int) -> bytes:
            blob = self._bucket.blob(name, generation=found.generation)
            with self._explained(name, missing=ObjectMissing(f"{name} of generation {found.generation}")):
                return blob.download_as_bytes(
                    start=first, end=last, raw_download=True, checksum=None, timeout=TIMEOUT, retry=self._retry
                )

        return io.BufferedReader(_Parts(fetch, found.size), READ_CHUNK)

    def download(self, name: str, path: Path, generation: int | None = None) -> None:
        """See `Bucket.download`."""
        blob = self._bucket.blob(checked_name(name), generation=generation)
        try:
            with self._explained(name, missing=ObjectMissing(name)):
                blob.download_to_filename(str(path), checksum="crc32c", timeout=TIMEOUT, retry=self._retry)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def delete(self, name: str, *, if_generation: int | None = None) -> None:
        """See `Bucket.delete`."""
        blob = self._bucket.blob(checked_name(name))
        try:
            with self._explained(name, missing=ObjectMissing(name)):
                blob.delete(if_generation_match=if_generation, timeout=TIMEOUT, retry=self._safe(if_generation))
        except ObjectMissing:
            pass

    def list(self, prefix: str) -> Iterator[Stat]:
        """See `Bucket.list`."""
        with self._explained(prefix):
            for blob in self._bucket.list_blobs(prefix=prefix, timeout=TIMEOUT, retry=self._retry):
                yield _stat(blob)

    def _safe(self, if_generation: int | None):
        """Repeat after a fault only what a precondition keeps from happening twice."""
        return None if if_generation is None else self._retry

    @contextmanager
    def _explained(self, name: str, missing: Exception | None = None) -> Generator[None]:
        """Translate the client's errors; `missing` is the meaning of a 404, the bucket itself by default."""
        try:
            yield
        except _KNOWN as error:
            raise self._sentence(_cause(error), name, missing) from error

    def _sentence(self, error: Exception, name: str, missing: Exception | None) -> Exception:
        uri, bucket, brief = self.uri(name), f"gs://{self._bucket.name}", _brief(error)
        match error:
            case api.PreconditionFailed():
                return PreconditionFailed(name)
            case api.NotFound():
                message = f"The bucket {bucket} does not exist; create it, or correct TAXI_BUCKET."
                return missing or PermanentError(message)
            case api.Forbidden() | api.Unauthorized() | auth.RefreshError():
                return PermanentError(
                    f"{uri}: Google refused these credentials ({brief}); give them roles/storage.objectUser."
                )
            case DataCorruption():
                return TransientError(f"{uri}: bytes were damaged on the way (wrong CRC32C); run it again.")
            case api.ServerError() | api.TooManyRequests() | api.Conflict():
                return TransientError(f"{bucket} is not available ({brief}) for {uri}; run it again later.")
            case api.GoogleAPICallError():
                return PermanentError(f"{uri}: Google Cloud Storage refused the request ({brief}: {error.message}).")
        return TransientError(f"{bucket} cannot be reached for {uri} ({brief}); see to the network and run it again.")


def client(what: str, project: str | None, key_file: Path | str | None) -> storage.Client:
    """Return a client with the key file's account, else Application Default Credentials; anonymous at an emulator.

    `what` is used for messages.

    Raises:
        PermanentError: there are no credentials, or the key file is not one.
    """
    try:
        if os.environ.get(EMULATOR):
            credentials = AnonymousCredentials()
        elif key_file:
            credentials = service_account.Credentials.from_service_account_file(str(key_file), scopes=[SCOPE])
        else:
            credentials = None
        return storage.Client(project=project, credentials=credentials)
    except (auth.GoogleAuthError, OSError, ValueError) as error:  # its own text may quote the key
        if key_file:
            raise PermanentError(
                f"{what}: the key file {key_file} is not a readable service account key ({type(error).__name__}); correct "
                "TAXI_GCP_KEY_FILE."
            ) from None
        raise PermanentError(
            f"{what} needs credentials and there are none that can be used: run `gcloud auth application-default login`, "
            "or name a service account's key file in TAXI_GCP_KEY_FILE."
        ) from None


class _Parts(io.RawIOBase):
    """Parts of one generation of an object of `size` bytes, one request each.

    google-cloud-storage's own reader is not used: it may request the object's link again, and then read another generation.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch, self._size, self._at = fetch, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        part = self._fetch(self._at, self._at + wanted - 1)
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


def _stat(blob: storage.Blob) -> Stat:
    return Stat(str(blob.name), int(blob.size), int(blob.generation), dict(blob.metadata or {}))


def _crc32c(path: Path) -> str:
    checksum = google_crc32c.Checksum()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            checksum.update(chunk)
    return base64.b64encode(checksum.digest()).decode()


def _cause(error: Exception) -> Exception:
    """What was behind giving up, as the error of the answer's status where there was an answer."""
    if isinstance(error, api.RetryError):
        error = error.cause or error
    return api.from_http_response(error.response) if isinstance(error, InvalidResponse) else error


def _brief(error: Exception) -> str:
    return (
        f"HTTP {int(error.code)}" if isinstance(error, api.GoogleAPICallError) and error.code else type(error).__name__
    )
