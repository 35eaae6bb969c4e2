"""Read what the lake and the sinks record of all months: one call of each, at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month

Recorders = Mapping[str, Callable[[], Mapping[Month, Manifest]]]
"""By asset: the call that returns the manifests of its months."""


def read_manifests(recorders: Recorders) -> dict[Month, dict[str, Manifest]]:
    """Return the manifests of each month that is recorded anywhere, by asset.

    Raises:
        TaxiError: a sink cannot be read.
    """
    found: dict[Month, dict[str, Manifest]] = {}
    with ThreadPoolExecutor(max(len(recorders), 1), thread_name_prefix="manifests") as pool:
        for asset, months in zip(recorders, pool.map(lambda read: read(), recorders.values()), strict=True):
            for month, manifest in months.items():
                found.setdefault(month, {})[asset] = manifest
    return found
