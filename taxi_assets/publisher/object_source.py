"""Months in a bucket of Google Cloud Storage (gs://) or Amazon S3 (s3://), read with pyarrow's file systems.

Credentials are where the tools of Google and Amazon look for them: Application Default Credentials; AWS_* and ~/.aws.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.locks import file_lock
from taxi_assets.publisher.local_copy import PartialFile, cached_file, sha256_of
from taxi_assets.publisher.published import Fetched, Published
from taxi_assets.publisher.source_file import is_part

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

    from taxi_assets.publisher.download import DownloadProgress

T = TypeVar("T")

CHUNK_BYTES = 4 << 20
WAIT_SECONDS = 3600
PATIENCE = dt.timedelta(seconds=60)
REFUSALS = ("ACCESS_DENIED", "ACCESS DENIED", "INVALID_ACCESS_KEY", "SIGNATURE_DOES_NOT_MATCH", "PERMISSION", "CREDENTIAL",
            "UNAUTHENTICATED", "NO_SUCH_BUCKET")  # fmt: skip
"""What the messages of requests have in them whose repetition would be refused, too."""


class ObjectFolder:
    """Objects at an address, `gs://bucket/folder/name` or `s3://…`: one, or those below it. `label` names the month."""

    def __init__(self, address: str, label: str) -> None:
        self.address, self._label = address, label
        scheme, _, self._path = address.partition("://")
        self._filesystem = self._said(lambda: _filesystem(scheme))

    def published(self) -> Published | None:
        """Return what is there now; None if there is nothing.

        Raises:
            PermanentError: the request is refused.
            TransientError: the store is down.
        """
        found = self._said(self._objects)
        if not found:
            return None
        versions = [self._said(lambda info=info: self._version(info)) for info in found]
        listing = "\n".join(f"{info.path} {info.size} {version}" for info, version in zip(found, versions, strict=True))
        single = found[0].path == self._path
        version = versions[0] if single else f"{len(found)}-{hashlib.sha256(listing.encode()).hexdigest()}"
        times = [info.mtime for info in found if info.mtime]
        return Published(self.address, version, sum(info.size for info in found), max(times, default=None))

    def fetch(self, published: Published, target: Path, progress: DownloadProgress | None) -> Fetched:
        """Copy what is `published` to `target`, a file or a folder, unless that is a current copy of it."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(target.with_name(target.name + ".lock"), WAIT_SECONDS):
            if cached := cached_file(target, published):
                return cached
            found = self._said(self._objects)
            if target.is_dir():
                shutil.rmtree(target, ignore_errors=True)
            else:
                target.unlink(missing_ok=True)
            paths, done = [], 0
            for info in found:
                paths.append(target / PurePosixPath(info.path).relative_to(self._path))
                paths[-1].parent.mkdir(parents=True, exist_ok=True)
                part = PartialFile(paths[-1])
                self._copy(info, part, published, progress, done)
                if info.path == self._path:
                    return part.finish(published)
                os.replace(part.path, paths[-1])
                part.discard()
                done += info.size
            return Fetched(target, published, sha256_of(*paths), downloaded=True)

    def _objects(self) -> list[FileInfo]:
        from pyarrow.fs import FileSelector, FileType

        (info,) = self._filesystem.get_file_info([self._path])
        if info.type == FileType.File:
            return [info]
        below = self._filesystem.get_file_info(FileSelector(self._path, recursive=True, allow_not_found=True))
        found = [each for each in below if each.type == FileType.File and each.size]
        return sorted(
            (each for each in found if is_part(PurePosixPath(each.path).relative_to(self._path))),
            key=lambda each: each.path,
        )

    def _version(self, info: FileInfo) -> str:
        """Return the object's generation (Google) or ETag (Amazon)."""
        with self._filesystem.open_input_stream(info.path) as stream:
            facts = {str(name).lower(): value for name, value in (stream.metadata() or {}).items()}
        version = facts.get("generation") or facts.get("etag") or b""
        return version.decode() if isinstance(version, bytes) else str(version)

    def _copy(
        self, info: FileInfo, part: PartialFile, published: Published, progress: DownloadProgress | None, before: int
    ) -> None:
        size = 0
        with part.create(published) as copy:
            stream = self._said(lambda: self._filesystem.open_input_stream(info.path))
            while chunk := self._said(lambda: stream.read(CHUNK_BYTES)):
                try:
                    copy.write(chunk)
                except OSError as error:
                    raise part.disk_error(error, self._label, published.size) from None
                size += len(chunk)
                if progress:
                    progress(before + size, published.size)
        if size != info.size:
            raise TransientError(f"{self._label}: {info.path} is being written; run it again when it is complete.")

    def _said(self, request: Callable[[], T]) -> T:
        """Return the answer to a request; its failure is one sentence."""
        try:
            return request()
        except OSError as error:
            text = " ".join(str(error).split())[:300].rstrip(".")
            if any(word in text.upper() for word in REFUSALS):
                raise PermanentError(
                    f"{self._label}: {self.address} cannot be read ({text}); check TAXI_SOURCE and the credentials "
                    "(GOOGLE_APPLICATION_CREDENTIALS, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)."
                ) from None
            raise TransientError(
                f"{self._label}: {self.address} cannot be read ({text}); run it again later."
            ) from None


def _filesystem(scheme: str) -> FileSystem:
    from pyarrow import fs

    if scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")  # MinIO and the like
        return fs.S3FileSystem(endpoint_override=endpoint, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=4))
    if emulator := os.environ.get("STORAGE_EMULATOR_HOST"):
        parts = urlsplit(emulator if "//" in emulator else f"http://{emulator}")
        return fs.GcsFileSystem(anonymous=True, scheme=parts.scheme, endpoint_override=parts.netloc)
    return fs.GcsFileSystem(retry_time_limit=PATIENCE)
