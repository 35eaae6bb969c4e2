"""Downloads with retries: resumed until the file is complete and verified, or one clear error.

An unchanged file is not downloaded twice. Nothing here knows taxis: addresses and what a missing file means are in
`source`, one request and its failures in `http_client`, files on disk in `local_copy`.

This is not left to a library, as the retries of requests and urllib3 neither resume a body nor check that its parts
belong to one file, and their errors contain the address with its secrets.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from email.utils import format_datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

import requests

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.publisher.http_client import HttpClient, RetryableError, chunks, describe
from taxi_assets.publisher.local_copy import (
    FREE_SPACE,
    PartialFile,
    cached_file,
    content_error,
    disk_errors,
    target_lock,
)
from taxi_assets.publisher.published import Published, host, redact

T = TypeVar("T")
DownloadProgress = Callable[[int, int | None], None]
"""Called after each chunk with the bytes on disk, and the bytes in total where the server states them."""


@dataclass(frozen=True)
class DownloadPolicy:
    """Limits of a probe or download, in seconds and bytes.

    `total_seconds` limits all attempts together, for the probe and for the download each. An attempt that received
    `progress_bytes` more than any before resets the count of attempts: a large file over a bad line needs many. An
    attempt that receives fewer than `slow_bytes` in `slow_seconds` fails.
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


class Downloaded(NamedTuple):
    """A file on disk; `fresh` when it was downloaded now."""

    published: Published
    sha256: str
    fresh: bool


class Downloader:
    """Probes and downloads files. `label` names a file in messages: `yellow 2021-01`."""

    def __init__(self, policy: DownloadPolicy | None = None):
        self._policy = policy or DownloadPolicy()
        self._http = HttpClient(self._policy.connect_seconds, self._policy.read_seconds)

    def probe(self, address: str, label: str) -> ProbeResult:
        """Request a file's headers.

        Raises:
            TransientError, PermanentError: no response says whether the file exists.
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
    ) -> Downloaded:
        """Download `address` to `target`, unless that is a current copy of what is `published`.

        Raises:
            TransientError: the server did not send the whole file within the policy; a later call resumes.
            PermanentError: what it sends is not the file, or the disk is full.
        """
        part = PartialFile(target)
        with disk_errors(label, part, published.size):
            target.parent.mkdir(parents=True, exist_ok=True)
            with target_lock(target, self._policy.total_seconds, label):
                if cached := cached_file(target, published):
                    return Downloaded(*cached, fresh=False)
                if part.published is None or not part.published.unchanged_since(published):
                    part.discard()
                transfer = _Transfer(self._policy, self._http, address, target, part, published, progress)
                received, sha256 = self._with_retries(label, transfer.attempt, lambda: part.size)
                part.finish(target, received, sha256)
                return Downloaded(received, sha256, fresh=True)

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
            time.sleep(pause)


@dataclass(frozen=True)
class _Transfer:
    """The download of one file."""

    policy: DownloadPolicy
    http: HttpClient
    address: str
    target: Path
    part: PartialFile
    published: Published
    progress: DownloadProgress | None

    def attempt(self, deadline: float) -> tuple[Published, str]:
        """Start or resume; return what the complete, verified partial file is, and its SHA-256."""
        previous, size, digest = self.part.published, self.part.size, self.part.digest()
        if previous and size == previous.size:  # killed between the last byte and the rename
            return self._verified(previous, resumed=True), digest.hexdigest()
        validator = _validator(previous) if previous and size else None
        headers = {"Range": f"bytes={size}-", "If-Range": validator} if validator else {}
        with self.http.request("GET", self.address, headers) as response:
            offered = self._checked(response, previous if validator else None, size)
            resumed = response.status_code == 206
            if not resumed:  # a first attempt, or the server ignores Range, or the file has changed
                size, digest = 0, hashlib.sha256()
            self._check_space((offered.size or 0) - size)
            with self.part.path.open("ab") if resumed else self.part.create(offered) as file:
                for chunk in self._timely(chunks(response, self.address), deadline):
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                    if self.progress:
                        self.progress(size, offered.size)
                file.flush()
                os.fsync(file.fileno())
        if offered.size is not None and size != offered.size:
            raise RetryableError(f"{host(self.address)} sent {size:,} of {offered.size:,} bytes")
        return self._verified(replace(offered, size=size), resumed=resumed), digest.hexdigest()

    def _checked(self, response: requests.Response, previous: Published | None, size: int) -> Published:
        """Return what the body is: the whole file (200), or exactly what is missing of `previous` (206).

        Raises:
            RetryableError: it is something else; the partial file is discarded if it may be the reason.
            PermanentError: the server compresses the body.
        """
        offered, status, server = describe(response, self.address), response.status_code, host(self.address)
        if status == 416:
            self.part.discard()
        if status not in (200, 206):  # the probe has just found the file
            raise RetryableError(f"{server} answers {status} {response.reason} to GET after it listed the file")
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        is_gz = encoding in ("gzip", "x-gzip") and self.target.name.endswith(".gz")  # many servers declare a .gz so
        if encoding not in ("", "identity") and not is_gz:
            raise PermanentError(
                f"{server} compresses {redact(self.address)} ({encoding}) despite Accept-Encoding: identity, so it "
                "cannot be verified; download the file manually and set TAXI_SOURCE to its path."
            )
        if status == 206 and not (previous and _is_rest(response, size) and offered.unchanged_since(previous)):
            self.part.discard()
            raise RetryableError(f"{server} sent another range than the one requested")
        same = (offered.version, offered.modified) == (self.published.version, self.published.modified)
        return replace(offered, size=self.published.size) if offered.size is None and same else offered

    def _verified(self, received: Published, *, resumed: bool) -> Published:
        """Return `received` if the content matches the file's name; else discard the partial file and raise."""
        error = content_error(self.part.path, self.target.name)
        if not error:
            return received
        self.part.discard()
        if resumed:  # the parts may belong to different files
            raise RetryableError(f"the file that {host(self.address)} sent in several parts {error}")
        raise PermanentError(
            f"the file at {received.location} {error}; open the address in a browser and check TAXI_SOURCE, or run it "
            "again later."
        )

    def _check_space(self, needed: int) -> None:
        folder = self.target.parent
        if (free := shutil.disk_usage(folder).free) < needed:
            raise PermanentError(f"{needed:,} bytes are needed in {folder}, {free:,} are free; {FREE_SPACE}.")

    def _timely(self, parts: Iterable[bytes], deadline: float) -> Iterator[bytes]:
        """Pass chunks on; raise RetryableError if they come too slowly or after the deadline."""
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


def _is_rest(response: requests.Response, start: int) -> bool:
    """Return whether a 206 is the file from byte `start` to its end: `Content-Range: bytes 100-199/200`."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
    return bool(match) and (int(match[1]), int(match[2])) == (start, int(match[3]) - 1)
