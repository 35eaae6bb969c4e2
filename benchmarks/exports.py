"""A CSV of a month as other tools write it, beside the published one: `python -m benchmarks.bench --exports`.

What is promised: reading an export takes at most 1.5 times the processor time of the published file.
"""

from __future__ import annotations

import datetime as dt
import gzip
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import report

ROWS = 600_000
TIME = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


def measure(folder: Path, most: int | None, repeat: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Every form in turn, `repeat` times; the fastest counts. `most`: rows of the generated month."""
    from taxi_assets.core.month import Month
    from taxi_assets.datasets.schema import YELLOW
    from taxi_assets.publisher.options import ReadOptions
    from taxi_assets.publisher.reader import open_trips
    from taxi_assets.publisher.sample import write_sample

    month, rows, files = Month(2021, 1), most or ROWS, folder / "exports"
    files.mkdir(parents=True, exist_ok=True)
    write_sample(files / "published.csv.gz", YELLOW, month, rows)
    written = forms(gzip.decompress((files / "published.csv.gz").read_bytes()).replace(b"\r\n", b"\n"))
    seconds = dict.fromkeys(written, float("inf"))
    for name, (content, _) in written.items():
        (files / f"{name}.csv").write_bytes(content)
    names = [*written]
    for turn in range(repeat):
        # in another order each time: a form finds the processor's caches as the one before left them
        for name in names[turn:] + names[:turn]:
            settings = written[name][1]
            started = time.process_time()
            for batch in open_trips(files / f"{name}.csv", YELLOW, month, options=ReadOptions(**settings)).batches:
                batch.validate()
            seconds[name] = min(seconds[name], time.process_time() - started)
    lines = []
    for name, best in seconds.items():
        lines.append({"form": name, "seconds": round(best, 3), "times": round(best / seconds["as published"], 2)})
        say(f"{name:<32} {best:6.3f} s {lines[-1]['times']:5.2f}")
    return {**report.machine(), "rows": rows, "lines": lines}


def forms(published: bytes) -> dict[str, tuple[bytes, dict[str, Any]]]:
    """The content in each form, and the settings that it needs."""

    def timed(form: str) -> bytes:
        @cache
        def written(text: bytes) -> bytes:
            try:
                return dt.datetime.fromisoformat(text.decode()).strftime(form).encode()
            except ValueError:  # a day that its month does not have, which the sample has on purpose
                return text

        return TIME.sub(lambda found: written(found[0]), published)

    lines = published.rstrip(b"\n").split(b"\n")
    zoned = timed("%Y-%m-%dT%H:%M:%SZ")
    return {
        "as published": (published, {}),
        "semicolons": (published.replace(b",", b";"), {}),
        "every field quoted": (b"\n".join(b'"' + line.replace(b",", b'","') + b'"' for line in lines), {}),
        "no header": (published.partition(b"\n")[2], {}),
        "times without seconds": (timed("%Y-%m-%d %H:%M"), {}),
        "12-hour clock, month first": (timed("%m/%d/%Y %I:%M:%S %p"), {}),
        "day first": (timed("%d.%m.%Y %H:%M"), {}),
        "a zone, ignored": (zoned, {"zoned_times": "wall_clock"}),
        "a zone, converted": (zoned, {"zoned_times": "convert"}),
        "decimal commas": (published.replace(b",", b";").replace(b".", b","), {"decimal_comma": True}),
    }
