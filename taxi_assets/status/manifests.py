"""Read what the lake and the sinks record of months: one call of each, at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, wait
from typing import TypeVar

from taxi_assets.core.errors import TaxiError, TransientError
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month

Recorders = Mapping[str, Callable[[Collection[Month] | None], Mapping[Month, Manifest]]]
"""By asset: the call that returns the manifests of these months, or of all; it may return those of more months."""
Result = TypeVar("Result")

UNREADABLE_SECONDS = 10.0
"""How long a sink is waited for when others count without it."""


def read_manifests(
    recorders: Recorders, months: Collection[Month] | None = None, unreadable: dict[str, TaxiError] | None = None
) -> dict[Month, dict[str, Manifest]]:
    """Return the manifests of each of these months, or of all, that is recorded anywhere, by asset.

    With `unreadable`, assets that cannot be read are left out and added to it, with the reason.

    Raises:
        TaxiError: a sink cannot be read.
    """
    calls = {asset: lambda call=call: call(months) for asset, call in recorders.items()}
    read, errors = call_all(calls, None if unreadable is None else UNREADABLE_SECONDS)
    if unreadable is not None:
        unreadable |= errors
    elif errors:
        raise next(iter(errors.values()))
    found: dict[Month, dict[str, Manifest]] = {}
    for asset in recorders:
        for month, manifest in read.get(asset, {}).items():
            found.setdefault(month, {})[asset] = manifest
    return found


def call_all(
    calls: Mapping[str, Callable[[], Result]], seconds: float | None = None
) -> tuple[dict[str, Result], dict[str, TaxiError]]:
    """Call all at the same time; return what they returned, and their errors, by name in the order of `calls`.

    A call that has not returned after `seconds` is an error. It is not waited for, not even when the process exits.
    """
    futures: dict[str, Future[Result]] = {name: Future() for name in calls}

    def run(name: str) -> None:
        try:
            futures[name].set_result(calls[name]())
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
            futures[name].set_exception(error)

    for name in calls:
        threading.Thread(target=run, args=(name,), name=f"manifests {name}", daemon=True).start()
    wait(futures.values(), seconds)
    returned: dict[str, Result] = {}
    errors: dict[str, TaxiError] = {}
    for name, future in futures.items():
        if not future.done():
            errors[name] = TransientError(
                f"no answer within {seconds:.0f} s: its server cannot be reached from here, or another process locks it; check "
                "its address in the settings."
            )
        elif isinstance(error := future.exception(), TaxiError):
            errors[name] = error
        else:
            returned[name] = future.result()
    return returned, errors
