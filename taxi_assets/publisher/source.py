"""Where months come from: two publishers, an address or path of the user's, or the generator; never one for another.

A source says whether a month is published, and brings it onto local disk. How a file comes over the network is in
`download`; what is in it is the reader's business.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import stat
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import REQUEST_SOURCE_SINCE, TaxiKind
from taxi_assets.publisher.local_copy import sha256_of
from taxi_assets.publisher.offer import Published, host, redact

if TYPE_CHECKING:
    from taxi_assets.publisher.download import Patience, Progress

__all__ = ["Fetched", "Published", "TripSource", "trip_source"]

NEW_YORK = ZoneInfo("America/New_York")
KNOWN_MONTH = Month(2019, 1)
"""Published long ago, everywhere and for both kinds: a refusal of it is a refusal of the caller."""
LATE_MONTHS = 6
"""A month younger than this may yet come: TLC's lag is 47 to 105 days, median 51 (Last-Modified of 23 months)."""

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


@dataclass(frozen=True)
class Fetched:
    """A month on local disk.

    `sha256` is of the file as published. `downloaded` is False when the local copy was still current or the source is a
    path; `generated` is True only for the sample.
    """

    path: Path
    published: Published
    sha256: str
    downloaded: bool
    generated: bool


class TripSource(ABC):
    """Where months come from. `name` is the setting, without secrets."""

    name: str

    @abstractmethod
    def probe(self, kind: TaxiKind, month: Month) -> Published | None:
        """The month as it is published now, without downloading it; None when it is not, or not yet.

        Raises:
            TransientError: nobody can tell: the server is down, or refuses us.
            PermanentError: the source cannot be asked at all.
        """

    @abstractmethod
    def fetch(self, kind: TaxiKind, month: Month, folder: Path, progress: Progress | None = None) -> Fetched:
        """Bring the month onto local disk, into `folder` unless it is there already; verified, whole or not at all.

        Raises:
            PermanentError: the month is not published, what is there is no file of trips, or the disk is full.
            TransientError: the server is down, refuses us, or did not send it whole; running again continues.
        """

    def zones(self, folder: Path) -> Path | None:  # noqa: ARG002
        """The taxi zone lookup (CSV) on local disk; None from a source that publishes none.

        Raises:
            PermanentError, TransientError: as `fetch`.
        """
        return None


def trip_source(setting: str, sample_rows: int, base: Path, patience: Patience | None = None) -> TripSource:
    """The source that TAXI_SOURCE names: a publisher, `sample`, or a template with {month}; paths count from `base`.

    Raises:
        PermanentError: it names none.
    """
    if setting == "sample":
        return SampleSource(sample_rows)
    if setting in PUBLISHERS:
        return WebSource(setting, *PUBLISHERS[setting], patience=patience)
    if "{month}" not in setting:
        known = ", ".join(PUBLISHERS)
        raise PermanentError(f"TAXI_SOURCE: {redact(setting)} is none of {known} and sample, and lacks {{month}}.")
    try:
        scheme = address_scheme(setting)
    except ValueError as error:
        raise PermanentError(f"TAXI_SOURCE: {error}.") from None
    if scheme is None:
        return PathSource(setting, base)
    if scheme == "file":
        return PathSource(unquote(urlsplit(setting).path), base)
    return WebSource(redact(setting), setting, patience=patience)


def address_scheme(setting: str) -> str | None:
    """What an address with {month} begins with, `http`, `https` or `file`; None for a path.

    Raises:
        ValueError: something else.
    """
    scheme, separator, _ = setting.partition("://")
    if not separator:
        return None
    if scheme.lower() not in ("http", "https", "file"):
        raise ValueError(f"{scheme.lower()}:// is not supported; use https://, a path, tlc, datatalks or sample")
    return scheme.lower()


class WebSource(TripSource):
    """Months at an address with {month} and perhaps {kind} in it."""

    def __init__(self, name: str, template: str, zones: str | None = None, *, patience: Patience | None = None):
        from taxi_assets.publisher.download import (
            Downloader,  # requests costs 0.1 s, and most processes download nothing
        )
        from taxi_assets.publisher.web import without_credentials

        without_credentials(template)  # an address that cannot be asked is told at once
        self.name, self._template, self._zones = name, template, zones
        self._downloader = Downloader(patience)

    def probe(self, kind: TaxiKind, month: Month) -> Published | None:
        """Ask for the headers. A 403 may mean "no such file" (TLC's server) or "not you"; a known month tells which."""
        if _impossible(kind, month):
            return None
        address, what = _named(self._template, kind, month), f"{kind.name} {month}"
        for attempt in (1, 2):
            answer = self._downloader.probe(address, what)
            if answer.published:
                return answer.published
            if answer.status in (404, 410):
                return None
            if answer.status != 403:
                raise PermanentError(
                    f"{what}: {host(address)} answers {answer.status} to {redact(address)}; check TAXI_SOURCE and its "
                    "credentials."
                )
            if attempt == 1:  # and ask once more: a limit on requests may have hit the month alone
                self._check_welcome(kind, month)
        return None

    def _check_welcome(self, kind: TaxiKind, month: Month) -> None:
        address, what = _named(self._template, kind, KNOWN_MONTH), f"{kind.name} {month}"
        if month != KNOWN_MONTH and self._downloader.probe(address, what).published:
            return
        also = "" if month == KNOWN_MONTH else f" and to {KNOWN_MONTH}, which was published long ago"
        raise TransientError(
            f"{what}: {host(address)} answers 403 to it{also}: this computer is blocked or rate-limited there, or "
            "lacks credentials; wait and run it again, or set TAXI_SOURCE to a mirror or to files of your own."
        )

    def fetch(self, kind: TaxiKind, month: Month, folder: Path, progress: Progress | None = None) -> Fetched:
        """Download the month unless the local copy is current."""
        _check_possible(kind, month)
        address = _named(self._template, kind, month)
        target = folder / f"{kind.file_stem}_{month}{_suffix(address)}"

        def look() -> Published:
            if published := self.probe(kind, month):
                return published
            raise PermanentError(_not_published(kind, month, redact(address)))

        got = self._downloader.fetch(address, target, f"{kind.name} {month}", look, progress)
        return Fetched(target, got.published, got.sha256, downloaded=got.fresh, generated=False)

    def zones(self, folder: Path) -> Path | None:
        """Download the lookup unless the local copy is current."""
        address = self._zones
        if address is None:
            return None

        def look() -> Published:
            answer = self._downloader.probe(address, "taxi zones")
            if answer.published:
                return answer.published
            said = f"{host(address)} answers {answer.status} to {redact(address)}"
            raise TransientError(f"taxi zones: {said}; run it again later.")

        target = folder / "taxi_zone_lookup.csv"
        self._downloader.fetch(address, target, "taxi zones", look)
        return target


class PathSource(TripSource):
    """Months in local files, read where they are."""

    def __init__(self, template: str, base: Path):
        self.name, self._template = template, str(base / Path(template).expanduser())

    def probe(self, kind: TaxiKind, month: Month) -> Published | None:
        """The file's size and time of change, which are its version."""
        if _impossible(kind, month):
            return None
        return _described(self._path(kind, month), f"{kind.name} {month}")

    def fetch(self, kind: TaxiKind, month: Month, folder: Path, progress: Progress | None = None) -> Fetched:  # noqa: ARG002
        """The file itself, in place."""
        _check_possible(kind, month)
        path, what = self._path(kind, month), f"{kind.name} {month}"
        published = _described(path, what)
        if published is None:
            raise PermanentError(f"{what}: there is no file {path}; check TAXI_SOURCE, which names it.")
        try:
            sha256 = sha256_of(path)
        except OSError as error:
            raise _unreadable(path, what, error) from None
        if _described(path, what) != published:
            raise TransientError(f"{what}: {path} is being written; run it again when it is whole.")
        return Fetched(path, published, sha256, downloaded=False, generated=False)

    def _path(self, kind: TaxiKind, month: Month) -> Path:
        return Path(_named(self._template, kind, month)).resolve()


class SampleSource(TripSource):
    """Generated months: none of New York's trips, and labelled so."""

    name = "sample"

    def __init__(self, rows: int):
        self._rows = rows

    def probe(self, kind: TaxiKind, month: Month) -> Published | None:
        """The version of the generator and the number of rows."""
        if _impossible(kind, month):
            return None
        return Published(f"generated, {self._rows} rows", self._version(month), None, None)

    def fetch(self, kind: TaxiKind, month: Month, folder: Path, progress: Progress | None = None) -> Fetched:  # noqa: ARG002
        """Generate the month, always anew: a file of an older generator is never taken for it."""
        from taxi_assets.publisher.sample import write_sample

        _check_possible(kind, month)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{kind.file_stem}_{month}.sample-{self._rows}.csv.gz"
        write_sample(path, kind, month, self._rows)
        published = Published(f"generated, {self._rows} rows", self._version(month), path.stat().st_size, modified=None)
        return Fetched(path, published, sha256_of(path), downloaded=False, generated=True)

    def _version(self, month: Month) -> str:
        """Changes with the generated bytes: version 2 has request_source."""
        return f"sample-v{2 if month >= REQUEST_SOURCE_SINCE else 1}-{self._rows}"


def _named(template: str, kind: TaxiKind, month: Month) -> str:
    return template.replace("{month}", str(month)).replace("{kind}", kind.name)


def _suffix(address: str) -> str:
    """`.parquet`, `.csv.gz`, `.csv` or nothing: what the address promises."""
    return "".join(re.findall(r"\.(?:csv|parquet|gz)\b", Path(urlsplit(address).path.lower()).name)[-2:])


def _described(path: Path, what: str) -> Published | None:
    """A file of the user's; None when there is none."""
    try:
        facts = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(path, what, error) from None
    if not stat.S_ISREG(facts.st_mode):
        return None
    modified = dt.datetime.fromtimestamp(facts.st_mtime, dt.UTC)
    return Published(str(path), f"{facts.st_size}-{facts.st_mtime_ns}", facts.st_size, modified)


def _unreadable(path: Path, what: str, error: OSError) -> PermanentError:
    return PermanentError(f"{what}: {path} cannot be read ({error.strerror}); check its permissions.")


def _impossible(kind: TaxiKind, month: Month) -> str | None:
    """Why nobody can have published the month; told without asking anyone."""
    if month.start > dt.datetime.now(NEW_YORK).replace(tzinfo=None):
        return f"{kind.name} {month} has not happened yet; choose a month that is over."
    first = Month(*kind.first_month)
    return f"{kind.name} {month} is before {first}, the first month that is published." if month < first else None


def _check_possible(kind: TaxiKind, month: Month) -> None:
    if sentence := _impossible(kind, month):
        raise PermanentError(sentence)


def _not_published(kind: TaxiKind, month: Month, address: str) -> str:
    today = dt.datetime.now(NEW_YORK)
    if (today.year - month.year) * 12 + today.month - month.month <= LATE_MONTHS:
        late = "the newest is usually about two months behind, so run it again later"
        return f"{kind.name} {month} is not published yet ({address}); {late}."
    return f"{kind.name} {month} is not published at {address}; check the month and TAXI_SOURCE."
