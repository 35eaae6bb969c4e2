"""Probe the publisher for many months: a few at a time, within a time limit, and without raising.

A tick of a sensor or schedule has 60 seconds (Dagster's limit). Months that were not answered by then are probed by a
later tick.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from taxi_assets.core.errors import TaxiError
from taxi_assets.core.month import Month
from taxi_assets.status.decide import count

if TYPE_CHECKING:
    from taxi_assets.datasets.schema import TaxiKind
    from taxi_assets.publisher.published import Published
    from taxi_assets.publisher.source import TripSource

CONCURRENCY = 4
"""Requests at a time: a backfill's 200 months take seconds, and a publisher with a rate limit is not overloaded."""
SECONDS = 40.0


@dataclass(frozen=True)
class ProbeResults:
    """The probed months. `published` has each month that was answered, with None if it is not published; `error` is why
    other months are missing, in one sentence."""

    published: Mapping[Month, Published | None] = field(default_factory=dict)
    error: str | None = None

    def version(self, month: Month) -> str | None:
        """Return the version of the month's file, or its size if the source has no versions; None if it was not probed."""
        if (published := self.published.get(month)) is None:
            return None
        return published.version or f"{published.size or 'unknown'} bytes"

    @property
    def newest(self) -> Month | None:
        """The newest published month."""
        return max((month for month, published in self.published.items() if published), default=None)


def probe_months(
    source: TripSource, kind: TaxiKind, months: Iterable[Month], seconds: float | None = None, max_errors: int = 1
) -> ProbeResults:
    """Probe the months in this order; stop after `seconds` or `max_errors` errors."""
    waiting, seconds = list(dict.fromkeys(months))[::-1], SECONDS if seconds is None else seconds
    published: dict[Month, Published | None] = {}
    running: dict[Future, Month] = {}
    errors: list[str] = []
    deadline = time.monotonic() + seconds
    pool = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="probe")
    try:
        while running or (waiting and len(errors) < max_errors):
            while waiting and len(running) < CONCURRENCY and len(errors) < max_errors and time.monotonic() < deadline:
                month = waiting.pop()
                running[pool.submit(source.probe, kind, month)] = month
            done, _ = wait(running, timeout=max(deadline - time.monotonic(), 0), return_when="FIRST_COMPLETED")
            if not done:
                left = count(len(waiting) + len(running))
                errors.append(f"The publisher did not answer for {left} within {seconds:.0f} s.")
                break
            for future in done:
                month = running.pop(future)
                try:
                    published[month] = future.result()
                except TaxiError as error:
                    errors.append(str(error))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return ProbeResults(published, errors[0] if errors else None)


def newest_published(source: TripSource, kind: TaxiKind, months: Sequence[Month]) -> ProbeResults:
    """Probe from the newest month backwards, a few at a time, until one is published.

    The results have an error exactly if the newest published month is not known: a newer one than `newest` was not answered.
    """
    results = ProbeResults()
    for end in range(len(months), 0, -CONCURRENCY):
        probed = months[max(end - CONCURRENCY, 0) : end]
        some = probe_months(source, kind, reversed(probed))
        published = {**results.published, **some.published}
        unknown = [month for month in probed if month not in published and (some.newest is None or month > some.newest)]
        error = f"Which month is the newest is not known: {some.error}" if unknown else None
        results = ProbeResults(published, error)
        if unknown or some.newest:
            break
    return results
