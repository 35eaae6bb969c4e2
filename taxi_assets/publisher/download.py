"""Downloads with retries: resumed until the file is complete and verified, or one clear error.

Addresses and what a missing file means are in `source`, one request and its failures in `http_client`, files on disk in
`local_copy`. The retries of requests and urllib3 neither resume a body nor check that its parts belong to one file, and their
errors contain the address with its secrets.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from email.utils import format_datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

import requests

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.failures import report_retry
from taxi_assets.core.locks import file_lock
from taxi_assets.publisher.http_client import HttpClient, RetryableError, chunks, describe
from taxi_assets.publisher.local_copy import FREE_SPACE, PartialFile, cached_file
from taxi_assets.publisher.published import Fetched, Published, host, redact

T = TypeVar("T")
DownloadProgress = Callable[[int, int | None], None]
"""Called after each chunk with the bytes on disk, and the bytes in total where the server states them."""


@dataclass(frozen=True)
class DownloadPolicy:
    """Limits of a probe or download, in seconds and bytes.

    `total_seconds` limits all attempts of a probe, or of a download. One that received `progress_bytes` more than any before
    resets their count: a large file over a bad line needs many. One with fewer than `slow_bytes` in `slow_seconds` fails.
    """

    attempts: int = 6
    total_seconds: float = 3600
    connect_seconds: float = 10
    read_seconds: float = 60
    first_pause: float = 1
    longest_pause: float = 60
    longest_retry_after: float = 300
    slow_seconds: float = 30
    slow_bytes: int = 64 * 1024
    progress_bytes: int = 1 << 20


class ProbeResult(NamedTuple):
    """The HTTP status of a probe, and the file's description where there is a file."""

    status: int
    published: Published | None


class Downloader:
    """Probes and downloads files. `label` names a file in messages: `yellow 2021-01`."""

    def __init__(self, policy: DownloadPolicy | None = None):
        self._policy = policy or DownloadPolicy()
        self._http = HttpClient(self._policy.connect_seconds, self._policy.read_seconds)

    def probe(self, address: str, label: str) -> ProbeResult:
        """Request a file's headers.

        Raises:
            TransientError, PermanentError: no response shows whether the file exists.
        """
        return self._with_retries(label, lambda _: self._probe(address))

    def _probe(self, address: str) -> ProbeResult:
        for method in ("HEAD", "GET"):  # GET, its body unread, from a server that does not support HEAD
            with self._http.request(method, address) as response:
                status = response.status_code
                published = describe(response, address) if status == 200 else None
            if status not in (405, 501):
                break
        return ProbeResult(status, published)

    def fetch(
        self, address: str, target: Path, label: str, published: Published, progress: DownloadProgress | None = None
    ) -> Fetched:
        """Download `address` to `target`, unless that is a current copy of what is `published`; other processes wait for it.

        Raises:
            TransientError: the server did not send the whole file within the policy; a later call resumes.
            PermanentError: what it sends is not the file, or the disk is full.
        """
        part, seconds = PartialFile(target), self._policy.total_seconds
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(target.with_name(target.name + ".lock"), seconds):
                if cached := cached_file(target, published):
                    return cached
                if part.published is None or not part.published.unchanged_since(published):
                    part.discard()
                transfer = _Transfer(self._policy, self._http, address, part, published, progress)
                return part.finish(self._with_retries(label, transfer.attempt, lambda: part.size))
        except TimeoutError:
            raise TransientError(
                f"{label}: another process has been downloading {target} for {seconds:,.0f} seconds; run it again when "
                "that process has ended."
            ) from None
        except OSError as error:
            raise part.disk_error(error, label, published.size) from None

    def _with_retries(self, label: str, attempt: Callable[[float], T], received: Callable[[], int] = lambda: 0) -> T:
        """Call `attempt` with its deadline until it succeeds, with exponential back-off and full jitter."""
        policy, attempts, failures, most = self._policy, 0, 0, received()
        deadline = time.monotonic() + policy.total_seconds
        while True:
            attempts += 1
            try:
                return attempt(deadline)
            except PermanentError as error:
                raise PermanentError(f"{label}: {error}") from None
            except RetryableError as error:
                failure = error
            if received() >= most + policy.progress_bytes:
                failures, most = 0, received()
            failures += 1
            wait = failure.retry_after
            if wait > policy.longest_retry_after:
                raise TransientError(
                    f"{label}: {failure} and asks to wait {wait:,.0f} seconds; run it again after that."
                )
            pause = max(wait, random.uniform(0, min(policy.longest_pause, policy.first_pause * 2 ** (failures - 1))))
            if failures >= policy.attempts or time.monotonic() + pause > deadline:
                gave_up = f"gave up after {attempts} attempt{'s' if attempts > 1 else ''}"
                resumes = "; the partial download is kept and will be resumed" if received() else ""
                raise TransientError(f"{label}: {failure} ({gave_up}); {failure.remedy}{resumes}.")
            report_retry(f"{label}: {failure}", failures + 1, policy.attempts, pause)
            time.sleep(pause)


@dataclass(frozen=True)
class _Transfer:
    """The download of one file."""

    policy: DownloadPolicy
    http: HttpClient
    address: str
    part: PartialFile
    published: Published
    progress: DownloadProgress | None

    def attempt(self, deadline: float) -> Published:
        """Start or resume; return what the complete, verified partial file is."""
        previous, size = self.part.published, self.part.size
        if previous and size == previous.size:  # killed between the last byte and the rename
            received, resumed = previous, True
        else:
            received, resumed = self._transfer(previous, size, deadline)
        if not (error := self.part.content_error()):
            return received
        self.part.discard()
        if resumed:  # the parts may belong to different files
            raise RetryableError(f"the file that {host(self.address)} sent in several parts {error}")
        raise PermanentError(
            f"the file at {received.location} {error}; open the address in a browser and check TAXI_SOURCE, or run it "
            "again later."
        )

    def _transfer(self, previous: Published | None, size: int, deadline: float) -> tuple[Published, bool]:
        """Receive the file, or what is missing of it; return what it is, and whether it was resumed after `size` bytes."""
        validator = _validator(previous) if previous and size else None
        headers = {"Range": f"bytes={size}-", "If-Range": validator} if validator else {}
        with self.http.request("GET", self.address, headers) as response:
            offered = self._checked(response, previous if validator else None, size)
            resumed = response.status_code == 206
            if not resumed:  # a first attempt, or the server ignores Range, or the file has changed
                size = 0
            needed, folder = (offered.size or 0) - size, self.part.path.parent
            if (free := shutil.disk_usage(folder).free) < needed:
                raise PermanentError(f"{needed:,} bytes are needed in {folder}, {free:,} are free; {FREE_SPACE}.")
            with self.part.path.open("ab") if resumed else self.part.create(offered) as file:
                for chunk in self._timely(chunks(response, self.address), deadline):
                    file.write(chunk)
                    size += len(chunk)
                    if self.progress:
                        self.progress(size, offered.size)
        if offered.size is not None and size != offered.size:
            raise RetryableError(f"{host(self.address)} sent {size:,} of {offered.size:,} bytes")
        return replace(offered, size=size), resumed

    def _checked(self, response: requests.Response, previous: Published | None, size: int) -> Published:
        """Return what the body is: the whole file (200), or exactly what is missing of `previous` (206).

        Raises:
            RetryableError: it is something else; the partial file is discarded if it may be the reason.
            PermanentError: the server compresses the body.
        """
        offered, status, server = describe(response, self.address), response.status_code, host(self.address)
        if status == 416:
            self.part.discard()
        if status not in (200, 206):  # after a probe that returned 200
            raise RetryableError(f"{server} answers {status} {response.reason} to GET after it listed the file")
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        is_gz = encoding in ("gzip", "x-gzip") and self.part.target.suffix == ".gz"  # many servers declare a .gz so
        if encoding not in ("", "identity") and not is_gz:
            raise PermanentError(
                f"{server} compresses {redact(self.address)} ({encoding}) despite Accept-Encoding: identity, so it "
                "cannot be verified; download the file manually and set TAXI_SOURCE to its path."
            )
        if status == 206:
            rest = f"bytes {size}-{(offered.size or 0) - 1}/{offered.size}"  # from byte `size` to the end
            is_rest = response.headers.get("Content-Range") == rest
            if not (previous and is_rest and offered.unchanged_since(previous)):
                self.part.discard()
                raise RetryableError(f"{server} sent another range than the one requested")
        same = (offered.version, offered.modified) == (self.published.version, self.published.modified)
        return replace(offered, size=self.published.size) if offered.size is None and same else offered

    def _timely(self, parts: Iterable[bytes], deadline: float) -> Iterator[bytes]:
        """Pass chunks on; raise RetryableError if they arrive too slowly or after the deadline."""
        server, start, received = host(self.address), time.monotonic(), 0
        for chunk in parts:
            yield chunk
            now, received = time.monotonic(), received + len(chunk)
            if now > deadline:
                seconds = self.policy.total_seconds
                raise RetryableError(f"{server} did not send the whole file within {seconds:,.0f} seconds")
            if now - start >= self.policy.slow_seconds:
                if received < self.policy.slow_bytes:
                    raise RetryableError(f"{server} sends only {received / (now - start):,.0f} bytes per second")
                start, received = now, 0


def _validator(previous: Published) -> str | None:
    """Return the If-Range value: a strong ETag, or the date where there is no ETag (RFC 9110, 13.1.5)."""
    if previous.version:
        return None if previous.version.startswith("W/") else previous.version
    return format_datetime(previous.modified, usegmt=True) if previous.modified else None
