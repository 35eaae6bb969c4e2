"""Read what the lake and the sinks record of months: one call of each, at the same time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month

Recorders = Mapping[str, Callable[[Collection[Month] | None], Mapping[Month, Manifest]]]
"""By asset: the call that returns the manifests of these months, or of all; it may return those of more months."""


def read_manifests(recorders: Recorders, months: Collection[Month] | None = None) -> dict[Month, dict[str, Manifest]]:
    """Return the manifests of each of these months, or of all, that is recorded anywhere, by asset.

    Raises:
        TaxiError: a sink cannot be read.
    """
    found: dict[Month, dict[str, Manifest]] = {}
    with ThreadPoolExecutor(max(len(recorders), 1), thread_name_prefix="manifests") as pool:
        read = pool.map(lambda call: call(months), recorders.values())
        for asset, recorded in zip(recorders, read, strict=True):
            for month, manifest in recorded.items():
                found.setdefault(month, {})[asset] = manifest
    return found
