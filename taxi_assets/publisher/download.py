"""Downloading with patience: tried again and continued until the file is whole and verified, or one clear error.

An unchanged file is not downloaded twice. Knows nothing of taxis: which addresses there are and what a missing file
means is in `source`, one request and its failures in `web`, what lies on disk in `local_copy`.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from email.utils import format_datetime
from pathlib import Path
from typing import TypeVar

import requests

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.publisher.local_copy import TIDY, Part, alone, disk_troubles, kept, looks_wrong
from taxi_assets.publisher.offer import Published, host, redact
from taxi_assets.publisher.web import Again, Web, packed, published

T = TypeVar("T")
Progress = Callable[[int, int | None], None]
"""Told after each piece: bytes on disk, and bytes in all where the server says so. Often; whoever logs it paces it."""


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, in seconds and bytes.

    An attempt that brought the file `progress_bytes` further than any before starts the count of attempts anew: a
    large file over a bad line needs many. `total_seconds` bounds them all, for the probe and for the download each.
    Fewer than `slow_bytes` in `slow_seconds` end an attempt.
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


@dataclass(frozen=True)
class Answer:
    """The status of a probe, and the file's description where there is one."""

    status: int
    published: Published | None


@dataclass(frozen=True)
class Downloaded:
    """A file on disk; `fresh` when it was downloaded just now."""

    published: Published
    sha256: str
    fresh: bool


class Downloader:
    """Probes and downloads files. `free_bytes` says how many bytes a folder's disk still takes."""

    def __init__(self, patience: Patience | None = None, free_bytes: Callable[[Path], int] | None = None):
        self.patience = patience or Patience()
        self._free_bytes = free_bytes or (lambda folder: shutil.disk_usage(folder).free)
        self._web = Web(self.patience.connect_seconds, self.patience.read_seconds)

    def probe(self, address: str, what: str) -> Answer:
        """Ask for a file's headers. `what` names it in messages: `yellow 2021-01`.

        Raises:
            TransientError, PermanentError: there was no answer that says whether the file is there.
        """

        def ask(_: float) -> Answer:
            for method in ("HEAD", "GET"):  # GET, its body unread, where a server does not know HEAD
                with self._web.ask(method, address) as answer:
                    if method == "GET" or answer.status_code not in (405, 501):
                        found = published(address, answer) if answer.status_code == 200 else None
                        return Answer(answer.status_code, found)
            raise AssertionError

        return self._patiently(what, ask)

    def fetch(
        self, address: str, target: Path, what: str, look: Callable[[], Published], progress: Progress | None = None
    ) -> Downloaded:
        """Make `target` the file at `address`. `look` describes what is there now, or raises why it is not.

        Raises:
            TransientError: the server did not send it whole within our patience; what came is kept and continued.
            PermanentError: what it sends is not the file, or the disk is full.
        """
        with disk_troubles(what, target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.with_name(target.name + ".lock").touch()
        with alone(target, self.patience.total_seconds, what):
            now = look()
            if at_hand := kept(target, now):
                return Downloaded(*at_hand, fresh=False)
            part = Part(target)
            if (begun := part.published) and not begun.unchanged_since(now):
                part.drop()
            transfer = _Transfer(self, address, target, part, what, now, progress)
            got, sha256 = self._patiently(what, transfer.attempt, lambda: part.size)
            with disk_troubles(what, target.parent):
                part.finish(target, got, sha256)
            return Downloaded(got, sha256, fresh=True)

    def _patiently(self, what: str, attempt: Callable[[float], T], reached: Callable[[], int] = lambda: 0) -> T:
        """Attempt with exponential back-off and full jitter, bounded in attempts and in time (see `Patience`)."""
        limits, tries, furthest = self.patience, 0, reached()
        deadline = time.monotonic() + limits.total_seconds
        while True:
            try:
                return attempt(deadline)
            except Again as again:
                trouble, after = again.trouble, again.after
            if reached() >= furthest + limits.progress_bytes:
                tries, furthest = 0, reached()
            tries += 1
            if after > limits.longest_retry_after:
                raise TransientError(
                    f"{what}: {trouble} and asks to wait {after:,.0f} seconds; run it again after that."
                )
            pause = max(after, random.uniform(0, min(limits.longest_pause, limits.first_pause * 2 ** (tries - 1))))
            if tries >= limits.attempts or time.monotonic() + pause > deadline:
                resumes = "; what has come is kept" if reached() else ""
                raise TransientError(f"{what}: {trouble} (attempt {tries}, the last); run it again later{resumes}.")
            time.sleep(pause)


class _Transfer:
    """The download of one file: `attempt` is tried until it returns."""

    def __init__(
        self,
        downloader: Downloader,
        address: str,
        target: Path,
        part: Part,
        what: str,
        now: Published,
        progress: Progress | None,
    ):
        self._patience, self._web, self._free_bytes = downloader.patience, downloader._web, downloader._free_bytes
        self._address, self._target, self._part = address, target, part
        self._what, self._now, self._progress = what, now, progress
        self._host = host(address)

    def attempt(self, deadline: float) -> tuple[Published, str]:
        """Continue or begin; returns what the whole, verified part is, and its SHA-256."""
        part, begun, digest, had = self._part, self._part.published, self._part.digest(), self._part.size
        if begun and had == begun.size:  # killed between the last byte and the rename
            return self._believed(begun, resumed=True), digest.hexdigest()
        validator = _validator(begun) if begun and had else None
        headers = {"Range": f"bytes={had}-", "If-Range": validator} if validator else {}
        with self._web.ask("GET", self._address, headers) as answer:
            got = self._understood(answer, begun if validator else None, had)
            if answer.status_code == 200:  # from the start: nothing to continue, Range ignored, or the file has changed
                had, digest = 0, hashlib.sha256()
            with disk_troubles(self._what, self._target.parent, part, got.size):
                self._check_space((got.size or 0) - had)
                with part.proceed() if had else part.begin(got) as file:
                    have, pace = had, _Pace(self._patience, self._host, deadline)
                    for piece in self._web.pieces(answer, self._address):
                        file.write(piece)
                        digest.update(piece)
                        have += len(piece)
                        if self._progress:
                            self._progress(have, got.size)
                        pace.check(len(piece))
                    file.flush()
                    os.fsync(file.fileno())
        if got.size is not None and have != got.size:
            raise Again(f"{self._host} sent {have:,} of {got.size:,} bytes")
        return self._believed(replace(got, size=have), resumed=had > 0), digest.hexdigest()

    def _understood(self, answer: requests.Response, begun: Published | None, had: int) -> Published:
        """What the answer's body is or continues: a 200 the whole file, a 206 exactly what we lack of `begun`.

        Raises:
            Again: it is something else; when what we have may be at fault, it is forgotten.
            PermanentError: the body is not the file but a compressed form of it.
        """
        got = published(self._address, answer)
        if answer.status_code == 416:
            self._part.drop()
        if answer.status_code not in (200, 206):
            # the probe has just found the file: a server that refuses it now may give it in a moment
            raise Again(f"{self._host} answers {answer.status_code} {answer.reason} although the file is there")
        encoding = packed(answer)
        stored_so = encoding in ("gzip", "x-gzip") and self._target.name.endswith(
            ".gz"
        )  # as many servers declare a .gz
        if encoding and not stored_so:
            raise PermanentError(
                f"{self._what}: {self._host} compresses {redact(self._address)} on its way ({encoding}) although asked "
                "not to, so it cannot be verified; download it by hand and set TAXI_SOURCE to its path."
            )
        if answer.status_code == 206 and not (begun and _continues(answer, had) and got.unchanged_since(begun)):
            self._part.drop()
            raise Again(f"{self._host} sent another piece than the one asked for")
        same = (got.version, got.modified) == (self._now.version, self._now.modified)
        return replace(got, size=self._now.size) if got.size is None and same else got

    def _believed(self, got: Published, *, resumed: bool) -> Published:
        """`got`, if the part looks like what its name promises; otherwise the part is forgotten."""
        problem = looks_wrong(self._part.path, self._target.name)
        if not problem:
            return got
        self._part.drop()
        if resumed:  # perhaps the pieces do not belong together
            raise Again(f"what {self._host} sent in several pieces {problem}")
        raise PermanentError(
            f"{self._what}: what {got.location} sends {problem}; look at it in a browser and check TAXI_SOURCE, or run "
            "it again later."
        )

    def _check_space(self, needed: int) -> None:
        folder = self._target.parent
        if (free := self._free_bytes(folder)) < needed:
            raise PermanentError(f"{self._what}: {needed:,} bytes are needed in {folder}, {free:,} are free; {TIDY}.")


class _Pace:
    """Ends an attempt whose server drips, or that has passed the deadline."""

    def __init__(self, patience: Patience, server: str, deadline: float):
        self._patience, self._server, self._deadline = patience, server, deadline
        self._since, self._bytes = time.monotonic(), 0

    def check(self, new: int) -> None:
        self._bytes += new
        now = time.monotonic()
        if now > self._deadline:
            raise Again(f"{self._server} did not send all of it within {self._patience.total_seconds:,.0f} seconds")
        if now - self._since >= self._patience.slow_seconds:
            if self._bytes < self._patience.slow_bytes:
                raise Again(f"{self._server} sends only {self._bytes / (now - self._since):,.0f} bytes a second")
            self._since, self._bytes = now, 0


def _validator(begun: Published) -> str | None:
    """What makes continuing safe: a strong ETag, or the date where there is no ETag (RFC 9110, 13.1.5)."""
    if begun.version:
        return None if begun.version.startswith("W/") else begun.version
    return format_datetime(begun.modified, usegmt=True) if begun.modified else None


def _continues(answer: requests.Response, had: int) -> bool:
    """Whether a 206 is the rest of the file from byte `had` on, to its end: `Content-Range: bytes 100-199/200`."""
    unit, _, span = answer.headers.get("Content-Range", "").partition(" ")
    piece, _, total = span.partition("/")
    return unit == "bytes" and total.isdigit() and piece == f"{had}-{int(total) - 1}"
