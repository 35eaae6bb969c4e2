"""Where months come from: two publishers, an address or path from the settings, or the generator. There is no fallback.

A source reports whether a month is published and puts it on local disk. Transfers are in `download`, formats in `reader`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import REQUEST_SOURCE_SINCE, TaxiKind
from taxi_assets.publisher.local_copy import sha256_of
from taxi_assets.publisher.lookups import ZONES, ZONES_FILE, download_lookup
from taxi_assets.publisher.published import Fetched, Published, host, redact, split_credentials
from taxi_assets.publisher.source_file import files_of
from taxi_assets.publisher.template import FIELDS, filled, names_month, unknown_fields
from taxi_assets.publisher.unpublished import cannot_exist, not_published

if TYPE_CHECKING:
    from taxi_assets.publisher.download import DownloadPolicy, DownloadProgress
    from taxi_assets.publisher.object_source import ObjectFolder

REFERENCE_MONTH = Month(2019, 1)
"""Published long ago, everywhere and for both kinds: a 403 for it means that this client is refused."""

_TLC = "https://d37ci6vzurychx.cloudfront.net"
_DATATALKS = "https://github.com/DataTalksClub/nyc-tlc-data/releases/download"
PUBLISHERS = {
    "tlc": (f"{_TLC}/trip-data/{{kind}}_tripdata_{{month}}.parquet", f"{_TLC}/misc/taxi_zone_lookup.csv"),
    "datatalks": (
        f"{_DATATALKS}/{{kind}}/{{kind}}_tripdata_{{month}}.csv.gz",
        f"{_DATATALKS}/misc/taxi_zone_lookup.csv",
    ),
}
"""Addresses of months and zones: the publisher's own (TLC trip record page), and the CSV copies of DataTalksClub."""


class TripSource(ABC):
    """Where months come from. `name` is the setting, without secrets."""

    name: str

    @abstractmethod
    def probe(self, kind: TaxiKind, month: Month) -> Published | None:
        """Return the month as it is published now, without downloading it; None when it is not published.

        Raises:
            TransientError: unknown, because the server is down or refuses the request.
            PermanentError: the source cannot be probed.
        """

    @abstractmethod
    def fetch(self, kind: TaxiKind, month: Month, folder: Path, progress: DownloadProgress | None = None) -> Fetched:
        """Put the complete, verified month on local disk, into `folder` unless it is a local file.

        Raises:
            PermanentError: the month is not published, the file does not contain trips, or the disk is full.
            TransientError: the server is down, refuses the request, or did not send the whole file; a later call resumes.
        """

    def zones(self, folder: Path) -> Fetched | None:  # noqa: ARG002
        """Put the taxi zone lookup (CSV) on local disk; None from a source that publishes none.

        Raises:
            PermanentError, TransientError: as `fetch`.
        """
        return None


def trip_source(setting: str, sample_rows: int, base: Path, policy: DownloadPolicy | None = None) -> TripSource:
    """Return the source that TAXI_SOURCE names; relative paths count from `base`.

    Raises:
        PermanentError: the setting is invalid.
    """
    if setting == "sample":
        return SampleSource(sample_rows)
    if setting in PUBLISHERS:
        return WebSource(setting, *PUBLISHERS[setting], policy=policy)
    try:
        scheme = require_source(setting)
    except ValueError as error:
        raise PermanentError(f"TAXI_SOURCE{' ' if str(error).startswith(('must', 'has')) else ': '}{error}.") from None
    if scheme in ("http", "https"):
        return WebSource(redact(setting), setting, policy=policy)
    if scheme in ("gs", "s3"):
        return BucketSource(setting)
    return PathSource(unquote(urlsplit(setting).path) if scheme else setting, base)


def require_source(setting: str) -> str | None:
    """Return the scheme of an address or path with a month in it, as `address_scheme` does.

    Raises:
        ValueError: there is no month in it, or an unknown field, or another scheme.
    """
    if unknown := unknown_fields(redact(setting)):
        raise ValueError(f"has {unknown[0]!r} in it, which is none of {', '.join(FIELDS)}")
    if not names_month(setting):
        allowed = f"{', '.join(PUBLISHERS)}, sample, or a path or URL that contains {{month}}, or {{year}} and {{month_number}}"
        raise ValueError(f"must be {allowed}; got {redact(setting)!r}")
    return address_scheme(setting)


def address_scheme(
    setting: str,
    schemes: Collection[str] = ("https", "http", "file", "gs", "s3"),
    supported: str = "https://, gs://, s3://, a path, tlc, datatalks or sample",
) -> str | None:
    """Return the scheme of an address, one of `schemes`; None for a path. `supported` is for the error.

    Raises:
        ValueError: another scheme.
    """
    scheme, separator, _ = setting.partition("://")
    if not separator:
        return None
    if scheme.lower() not in schemes:
        raise ValueError(f"{scheme.lower()}:// is not supported; use {supported}")
    return scheme.lower()


class WebSource(TripSource):
    """Months at an address that contains {month} and optionally {kind}."""

    def __init__(self, name: str, template: str, zones: str | None = None, *, policy: DownloadPolicy | None = None):
        from taxi_assets.publisher.download import Downloader  # imports requests, which most processes do not need

        split_credentials(template)  # raises for an invalid address
        self.name, self._template, self._zones = name, template, zones
        self._downloader = Downloader(policy)

    def probe(self, kind: TaxiKind, month: Month) -> Published | None:
        """Request the headers. A 403 may mean "no such file" (TLC's server) or "access denied": see `_check_access`."""
        if cannot_exist(kind, month):
            return None
        address, label = filled(self._template, kind, month), f"{kind.name} {month}"
        status, published = self._downloader.probe(address, label)
        if status == 403:
            self._check_access(kind, month)
            status, published = self._downloader.probe(address, label)  # a rate limit may have affected one request
        if published or status in (403, 404, 410):
            return published
        raise PermanentError(
            f"{label}: {host(address)} answers {status} to {redact(address)}; check TAXI_SOURCE and its credentials."
        )

    def _check_access(self, kind: TaxiKind, month: Month) -> None:
        """Raise TransientError if the server refuses the reference month as well, which is certainly published."""
        address, label = filled(self._template, kind, REFERENCE_MONTH), f"{kind.name} {month}"
        also = ""
        if month != REFERENCE_MONTH:
            if self._downloader.probe(address, label).published:
                return
            also = f", and for {REFERENCE_MONTH}, which was published long ago"
        raise TransientError(
            f"{label}: {host(address)} answers 403 for this month{also}: this computer is blocked or rate-limited, or "
            "lacks credentials; run it again later, or set TAXI_SOURCE to a mirror or to local files."
        )

    def fetch(self, kind: TaxiKind, month: Month, folder: Path, progress: DownloadProgress | None = None) -> Fetched:
        """Download the month unless the local copy is current."""
        address, published = filled(self._template, kind, month), self.probe(kind, month)
        if published is None:
            raise not_published(kind, month, redact(address))
        # .parquet, .csv.gz, .csv or nothing, as the address ends
        target = folder / f"{kind.file_stem}_{month}{_suffixes(address)}"
        return self._downloader.fetch(address, target, f"{kind.name} {month}", published, progress)

    def zones(self, folder: Path) -> Fetched | None:
        """Download the lookup unless the local copy is current."""
        if self._zones is None:
            return None
        return download_lookup(self._downloader, self._zones, folder / ZONES_FILE, ZONES)


class BucketSource(TripSource):
    """Months in a bucket, at an address that contains the month: objects, or folders of parts."""

    def __init__(self, template: str):
        if "@" in urlsplit(template).netloc:
            raise PermanentError(
                "TAXI_SOURCE: an address of a bucket has no user or password; set the credentials in the environment."
            )
        self.name = self._template = template

    def probe(self, kind: TaxiKind, month: Month) -> Published | None:
        """Return the generation (Google) or the ETag (Amazon) of the object, or those of all in a folder, as its version."""
        return None if cannot_exist(kind, month) else self._objects(kind, month).published()

    def fetch(self, kind: TaxiKind, month: Month, folder: Path, progress: DownloadProgress | None = None) -> Fetched:
        """Copy the object, or the objects of a folder."""
        if cannot_exist(kind, month) or not (published := (objects := self._objects(kind, month)).published()):
            raise not_published(kind, month, filled(self._template, kind, month))
        target = folder / f"{kind.file_stem}_{month}.bucket{_suffixes(published.location)}"
        return objects.fetch(published, target, progress)

    def _objects(self, kind: TaxiKind, month: Month) -> ObjectFolder:
        from taxi_assets.publisher.object_source import ObjectFolder

        return ObjectFolder(filled(self._template, kind, month), f"{kind.name} {month}")


class PathSource(TripSource):
    """Months in local files, read in place."""

    def __init__(self, template: str, base: Path):
        self.name, self._template = template, str(base / Path(template).expanduser())

    def probe(self, kind: TaxiKind, month: Month) -> Published | None:
        """Return the size and time of the file, or the files of a folder, as its version; None when there is no file."""
        path = self._path(kind, month)
        try:
            files = [] if cannot_exist(kind, month) else files_of(path)
            facts = [file.stat() for file in files]
        except OSError as error:
            raise _unreadable(kind, month, path, error) from None
        if not facts:
            return None
        versions = [f"{fact.st_size}-{fact.st_mtime_ns}" for fact in facts]
        listing = "\n".join(f"{file} {version}" for file, version in zip(files, versions, strict=True))
        version = versions[0] if files == [path] else f"{len(files)}-{hashlib.sha256(listing.encode()).hexdigest()}"
        modified = dt.datetime.fromtimestamp(max(fact.st_mtime for fact in facts), dt.UTC)
        return Published(str(path), version, sum(fact.st_size for fact in facts), modified)

    def fetch(self, kind: TaxiKind, month: Month, folder: Path, progress: DownloadProgress | None = None) -> Fetched:  # noqa: ARG002
        """Return the file itself."""
        path, published = self._path(kind, month), self.probe(kind, month)
        if published is None:
            missing = f"{kind.name} {month}: there is no file {path}; check TAXI_SOURCE."
            raise not_published(kind, month, missing=missing)
        try:
            sha256 = sha256_of(*files_of(path))
        except OSError as error:
            raise _unreadable(kind, month, path, error) from None
        if self.probe(kind, month) != published:
            raise TransientError(f"{kind.name} {month}: {path} is being written; run it again when it is complete.")
        return Fetched(path, published, sha256, downloaded=False)

    def _path(self, kind: TaxiKind, month: Month) -> Path:
        return Path(filled(self._template, kind, month)).resolve()


class SampleSource(TripSource):
    """Generated months: not real trips, and labeled as generated."""

    name = "sample"

    def __init__(self, rows: int):
        self._rows = rows

    def probe(self, kind: TaxiKind, month: Month) -> Published | None:
        """Return the version of the generated bytes: version 2 has request_source."""
        if cannot_exist(kind, month):
            return None
        version = f"sample-v{2 if month >= REQUEST_SOURCE_SINCE else 1}-{self._rows}"
        return Published(f"generated, {self._rows} rows", version, None, None)

    def fetch(self, kind: TaxiKind, month: Month, folder: Path, progress: DownloadProgress | None = None) -> Fetched:  # noqa: ARG002
        """Generate the month, each time: a file of an older generator is never reused."""
        from taxi_assets.publisher.sample import write_sample

        published = self.probe(kind, month)
        if published is None:
            raise PermanentError(cannot_exist(kind, month))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{kind.file_stem}_{month}.sample-{self._rows}.csv.gz"
        write_sample(path, kind, month, self._rows)
        published = replace(published, size=path.stat().st_size)
        return Fetched(path, published, sha256_of(path), downloaded=False, generated=True)

    def zones(self, folder: Path) -> Fetched | None:
        """Generate the lookup."""
        from taxi_assets.publisher.zone_lookup import write_sample_zones

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "taxi_zone_lookup.sample.csv"
        write_sample_zones(path)
        published = Published("generated", None, path.stat().st_size, None)
        return Fetched(path, published, sha256_of(path), downloaded=False, generated=True)


def _suffixes(address: str) -> str:
    """Return what a file is by its address, for its copy: `.csv.gz`."""
    return "".join(re.findall(r"\.(?:csv|parquet|gz)\b", Path(urlsplit(address).path.lower()).name)[-2:])


def _unreadable(kind: TaxiKind, month: Month, path: Path, error: OSError) -> PermanentError:
    return PermanentError(f"{kind.name} {month}: {path} cannot be read ({error.strerror}); check its permissions.")
