"""Asking the publisher about months: some at a time, within a bounded time, and never by an exception.

A tick of a sensor or schedule has 60 seconds (Dagster's limit); what was not answered by then is asked another time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from taxi_assets.core.errors import TaxiError
from taxi_assets.core.month import Month

if TYPE_CHECKING:
    from taxi_assets.datasets.schema import TaxiKind
    from taxi_assets.publisher.source import Published, TripSource

AT_ONCE = 4
"""Questions under way: enough for a backfill's 200 months in some seconds, few enough for a publisher that throttles."""
SECONDS = 40.0


@dataclass(frozen=True)
class Answers:
    """What the publisher said: a month that was answered is in `published`, as None when it is not published.

    `trouble` is why others are not, in a sentence.
    """

    published: Mapping[Month, Published | None] = field(default_factory=dict)
    trouble: str | None = None

    def version(self, month: Month) -> str | None:
        """Version of the month's file; None where it is not known."""
        published = self.published.get(month)
        return published.version if published else None

    @property
    def newest(self) -> Month | None:
        """The newest month that is published, of those that were asked for."""
        return max((month for month, answer in self.published.items() if answer), default=None)


def ask(
    source: TripSource, kind: TaxiKind, months: Iterable[Month], seconds: float | None = None, refusals: int = 1
) -> Answers:
    """Ask for the months in the order given; after so many refusals, or `seconds`, no more are asked."""
    wanted, seconds = list(dict.fromkeys(months)), SECONDS if seconds is None else seconds
    published: dict[Month, Published | None] = {}
    trouble: str | None = None
    refused = 0
    deadline = time.monotonic() + seconds
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="probe")
    try:
        asked: dict[Future, Month] = {}
        waiting = iter(wanted)
        while True:
            while refused < refusals and len(asked) < AT_ONCE and (month := next(waiting, None)):
                asked[pool.submit(source.probe, kind, month)] = month
            if not asked:
                break
            done, _ = wait(asked, timeout=max(deadline - time.monotonic(), 0), return_when="FIRST_COMPLETED")
            if not done:
                trouble = (
                    trouble or f"The publisher did not answer for {next(iter(asked.values()))} in {seconds:.0f} s."
                )
                break
            for future in done:
                month = asked.pop(future)
                try:
                    published[month] = future.result()
                except TaxiError as error:
                    trouble, refused = trouble or str(error), refused + 1
            if time.monotonic() > deadline and len(published) < len(wanted):
                refused = refusals
                trouble = trouble or f"{len(wanted) - len(published)} months were not asked for within {seconds:.0f} s."
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return Answers(published, trouble)


def newest_published(source: TripSource, kind: TaxiKind, months: Sequence[Month]) -> Answers:
    """Ask from the newest of the months backwards, a few at a time, until one is published."""
    answers = Answers()
    for end in range(len(months), 0, -AT_ONCE):
        some = ask(source, kind, reversed(months[max(end - AT_ONCE, 0) : end]))
        answers = Answers({**answers.published, **some.published}, some.trouble)
        if some.trouble or some.newest:
            break
    return answers
