"""Publishes two files of a month with one commit: the clean trips, and the rejected rows as their companion.

The companion is moved next to its place first, under a name with the pair's id, which both files record in their footers.
Renaming the clean file is the commit; then the companion is renamed into its place. Whoever finds the companion of the
current clean file still waiting, because its writer was killed in between, puts it in place.
"""

from __future__ import annotations

from pathlib import Path

from taxi_assets.core.folders import flush
from taxi_assets.core.locks import file_lock
from taxi_assets.core.month import Month
from taxi_assets.core.month_file import MonthFile

PAIR = "pair"
"""In the manifests of both files: the id of the pair."""


def waiting(month: Month, pair: str) -> str:
    """Return the name of a companion that is not in its place yet."""
    return f"{month}.{pair}.waiting"


def publish_together(staged: Path, target: Path, companion: Path, place: Path, month: Month) -> None:
    """Publish a staged file as `target` and its staged companion as `place`: both or, if this process is killed, none.

    Writers of a month run one after another.
    """
    pair = MonthFile(staged, month).manifest.extra[PAIR]
    with file_lock(target.parent / ".lock"):
        _settle(target, place)
        for left in place.parent.glob(waiting(month, "*")):  # of a writer that was killed before its commit
            left.unlink(missing_ok=True)
        companion.replace(place.with_name(waiting(month, pair)))
        flush(place.parent)
        staged.replace(target)
        flush(target.parent)
        _settle(target, place)
    flush(place.parent)


def settle(clean: Path, rejected: Path) -> None:
    """Put the companion of the clean file in its place, if it still waits."""
    clean.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(clean.parent / ".lock"):
        _settle(clean, rejected)


def _settle(clean: Path, rejected: Path) -> None:
    if clean.exists():
        month = Month.parse(clean.stem)
        pair = MonthFile(clean, month).manifest.extra.get(PAIR)
        prepared = rejected.with_name(waiting(month, str(pair)))
        if prepared.exists():
            prepared.replace(rejected)
