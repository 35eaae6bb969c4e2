"""What a report's page records: the manifest of the month that it shows, in its last line and in the object's metadata."""

from __future__ import annotations

from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.sinks.parquet_object.io_manager import ParquetObjectIOManager
from taxi_assets.sinks.storage.bucket import Bucket, ObjectMissing, Stat
from taxi_assets.sinks.storage.month_objects import MANIFEST, months_of_objects

PAGE = "reports/{kind}/{month}.html"
"""Name of the page's object."""
_START, _END = "<!-- manifest ", " -->"
_TAIL = 16_384
"""Bytes at the end of a page that contain its last line."""


def page_with_manifest(page: str, manifest: Manifest) -> str:
    """Return the page with the manifest as a comment in its last line."""
    text = manifest.to_json().replace("--", "-\\u002d")  # two hyphens would end the comment
    return f"{page.rstrip()}\n{_START}{text}{_END}\n"


def report_manifests(objects: ParquetObjectIOManager, kind: TaxiKind) -> dict[Month, Manifest]:
    """Read what the pages record; a page of an older version records nothing, and has an empty manifest."""
    bucket = objects.bucket()
    found = {}
    for month, page in months_of_objects(bucket, PAGE, kind.name).items():
        text = page.metadata.get(MANIFEST) or _last_line(bucket, page)
        found[month] = Manifest.from_json(text) if text else Manifest(0)
    return found


def _last_line(bucket: Bucket, page: Stat) -> str | None:
    try:
        with bucket.open(page.name, page.generation) as file:
            file.seek(max(page.size - _TAIL, 0))
            tail = file.read().decode(errors="replace")
    except ObjectMissing:  # replaced meanwhile
        return None
    _, found, rest = tail.rpartition(_START)
    return rest.partition(_END)[0] if found else None
