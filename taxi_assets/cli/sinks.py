"""The sinks of a command: whether they answer before it loads a month, and what they have of it after its run failed."""

from __future__ import annotations

from collections.abc import Iterable

from taxi_assets.assets.sinks import sinks
from taxi_assets.core.errors import PermanentError, TaxiError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.resources import embedded_postgres, resources
from taxi_assets.settings import Settings
from taxi_assets.sinks.postgres.connection import Server
from taxi_assets.status.decide import Cell, State
from taxi_assets.status.manifests import call_all
from taxi_assets.status.months import MonthStatus

SINK_SECONDS = 15.0
"""How long every sink may take to answer before anything is downloaded."""
_HELD = {
    Cell.MISSING: "missing",
    Cell.STALE: "of the previous load",
    Cell.DIFFERS: "different from clean_trips",
    Cell.OTHER_SOURCE: "of another source",
}


def require_sinks(settings: Settings, kind: TaxiKind, month: Month) -> None:
    """Connect to Postgres and ask the other sinks what they have of a month, before anything is downloaded.

    Raises:
        PermanentError: sinks cannot be reached or refuse; the message names all of them.
    """
    managers, url = resources(settings), settings.postgres_url

    def connect() -> None:
        if url:  # without a look at the table, which another session may lock for a while
            with Server(url.get_secret_value, SINK_SECONDS).connected(str(month)):
                pass

    if not url:
        embedded_postgres(settings).url()  # which may take longer: it may have to recover
    calls = {
        sink.name: connect
        if sink.io_manager == "postgres"
        else lambda manager=managers[sink.io_manager]: manager.manifest(kind.table, month)
        for sink in sinks(settings)
    }
    _, errors = call_all(calls, SINK_SECONDS)
    if errors:
        raise PermanentError(" ".join(f"{name}: {error}" for name, error in errors.items()))


def failed_load(records: MonthStatus, month: Month, *, changed: bool) -> str:
    """Return what the sinks have of a month whose run failed, as a predicate: `was not loaded`, `is incomplete: ...`.

    `changed`: whether the run had materialized anything.
    """
    unreadable: dict[str, TaxiError] = {}
    recorded = records.read([month], unreadable)
    if not changed and not recorded[month].manifests:
        return "was not loaded"
    (decision,) = records.decide({}, recorded)
    if not changed and decision.state is not State.UNFINISHED:
        return "was not loaded; the previous load is unchanged"
    held = {name: _HELD.get(cell, "") for name, cell in decision.cells.items()}
    held |= dict.fromkeys(held.keys() & unreadable.keys(), "unreadable")
    texts = [_are([name for name in held if held[name] == text], text) for text in dict.fromkeys(held.values()) if text]
    if not texts:
        return "is loaded in every sink, but its run failed"
    if loaded := [name for name in held if not held[name]]:
        texts.append(_are(loaded, "loaded"))
    return f"is {'' if changed else 'still '}incomplete: {'; '.join(texts)}"


def _are(names: list[str], what: str) -> str:
    return f"{_listed(names)} {'is' if len(names) == 1 else 'are'} {what}"


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
