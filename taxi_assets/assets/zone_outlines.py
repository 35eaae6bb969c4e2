"""The outlines of the taxi zones that TAXI_ZONE_OUTLINES names: by them, coordinates get zone ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from taxi_assets.core.manifest import ZONE_OUTLINES
from taxi_assets.datasets.zones import ENDS
from taxi_assets.publisher.columns import recorded_columns
from taxi_assets.publisher.lookups import OUTLINES, OUTLINES_FILE, is_address, named_lookup
from taxi_assets.publisher.published import Fetched, redact
from taxi_assets.settings import Settings

if TYPE_CHECKING:
    from taxi_assets.lake.zone_ids import ZoneIds

VARIABLE = "TAXI_ZONE_OUTLINES"
LOCATION = "zone_outlines_location"
"""In the manifest of a month: where its outlines came from, without secrets."""


def has_coordinates(extra: Mapping[str, Any]) -> bool:
    """Return whether the published file of a month had coordinates, by the manifest of the raw or the clean month."""
    known = recorded_columns(extra)["known"]
    return all(name in known for end in ENDS for name in (f"{end}_longitude", f"{end}_latitude"))


def fetch_outlines(settings: Settings) -> Fetched:
    """Return the file that the setting names.

    Raises:
        PermanentError: it is not there.
        TransientError: the server is down.
    """
    target = settings.home_folder / "downloads" / OUTLINES_FILE
    return named_lookup(str(settings.zone_outlines), settings.folder, target, OUTLINES, VARIABLE)


def open_zone_ids(settings: Settings) -> ZoneIds:
    """Return what finds the zones of coordinates, by the outlines that the setting names."""
    from taxi_assets.lake.zone_ids import ZoneIds
    from taxi_assets.publisher.zone_outlines import read_outlines

    fetched = fetch_outlines(settings)
    recorded = {ZONE_OUTLINES: fetched.sha256, LOCATION: fetched.published.location}
    return ZoneIds(read_outlines(fetched.path), recorded)


def other_outlines(settings: Settings) -> Callable[[Mapping[str, Any]], str | None]:
    """Return what returns how the outlines of a clean month, by its manifest, differ from the setting's; None if they do not.

    A file is compared by its content, read once, and an address as such: it is requested only when a month is cleaned.
    """
    content = cache(lambda: fetch_outlines(settings).sha256)

    def differ(extra: Mapping[str, Any]) -> str | None:
        recorded = extra.get(ZONE_OUTLINES)
        if not has_coordinates(extra) or not (recorded or settings.zone_outlines):
            return None
        if not settings.zone_outlines:
            return "has zone ids by outlines, which are not set any more"
        if not recorded:
            return "has coordinates without zone ids, and zone outlines are set"
        if is_address(settings.zone_outlines):
            same = extra.get(LOCATION) == redact(settings.zone_outlines)
        else:
            same = recorded == content()
        return None if same else "has zone ids by other zone outlines"

    return differ
