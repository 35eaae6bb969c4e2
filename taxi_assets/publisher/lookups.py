"""Fetches lookup files: small tables that are published beside the months, or that a setting names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.publisher.local_copy import sha256_of
from taxi_assets.publisher.published import Fetched, Published, host, redact

if TYPE_CHECKING:
    from taxi_assets.publisher.download import Downloader

ZONES, ZONES_FILE = "taxi zones", "taxi_zone_lookup.csv"
"""What messages call the zone lookup, and its file."""
BASES, BASES_FILE = "bases of for-hire vehicles", "fhv_bases.csv"
"""The same for the lookup of bases."""
OUTLINES, OUTLINES_FILE = "zone outlines", "taxi_zones.geojson"
"""The same for the outlines of the zones."""


def is_address(setting: str) -> bool:
    """Whether a lookup's setting is an http(s) address, and not a path."""
    return _scheme(setting) in ("http", "https")


def _scheme(setting: str) -> str:
    return urlsplit(setting).scheme.lower() if "://" in setting else ""


def named_lookup(setting: str, base: Path, target: Path, label: str, variable: str) -> Fetched:
    """Return the lookup that `setting` of `variable` names, a path from `base`, or an http(s) address to download to `target`.

    Raises:
        PermanentError: it is not there.
        TransientError: the server is down.
    """
    if is_address(setting):
        from taxi_assets.publisher.download import Downloader  # imports requests, which most processes do not need

        return download_lookup(Downloader(), setting, target, label, f"check {variable}")
    path = (base / Path(unquote(urlsplit(setting).path) if _scheme(setting) else setting).expanduser()).resolve()
    try:
        sha256, size = sha256_of(path), path.stat().st_size
    except OSError as error:
        raise PermanentError(f"{label}: {path} cannot be read ({error.strerror}); check {variable}.") from None
    return Fetched(path, Published(str(path), None, size, None), sha256, downloaded=False)


def download_lookup(
    downloader: Downloader, address: str, target: Path, label: str, remedy: str = "run it again later"
) -> Fetched:
    """Download a lookup unless the local copy is current; `remedy` is what to do if the server does not offer it.

    Raises:
        TransientError: the server does not offer it, is down or refuses the request.
    """
    status, published = downloader.probe(address, label)
    if published is None:
        raise TransientError(f"{label}: {host(address)} answers {status} to {redact(address)}; {remedy}.")
    return downloader.fetch(address, target, label, published)
