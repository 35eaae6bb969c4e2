"""The contract of the sinks at length: random faults in a loop over every sink, and a reader polling all the while.

    python -m taxi_assets_tests.chaos [--seconds 600] [--seed N] [--sink NAME ...]

prints a table of what was done and what came of it, and ends with 1 if any outcome was wrong or anything was left behind.
The same seed makes the same choices; what they hit depends on the machine's pace.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from taxi_assets.services.embedded_postgres import EmbeddedPostgres
from taxi_assets_tests.bigquery_fixtures import BigQueryServer, bigquery_server
from taxi_assets_tests.emulators import bigquery as emulator
from taxi_assets_tests.gcs_fixtures import GcsServer, gcs_server
from taxi_assets_tests.postgres_fixtures import PostgresServer
from taxi_assets_tests.sinks.contract import (
    EVERYWHERE,
    LeftBehind,
    Months,
    disaster,
    reader,
    seconds_to_replace,
)
from taxi_assets_tests.sinks.places import JANUARY, SINKS, Place, contents_of, place_of

WEIGHTS = {"kill -9": 12, "server killed": 0.5}
"""How often a fault is chosen, where not as often as any other."""
SHARES = {"days": 2, "gcs-days": 2, "bigquery": 3}
"""How much of the time a sink gets, where not as much as any other: a month takes so much longer there."""


class Servers:
    """One of each, started when it is first needed, in a folder."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack

    @cached_property
    def postgres(self) -> PostgresServer:
        embedded = EmbeddedPostgres(self._folder / "postgres")
        self._stack.callback(embedded.remove)
        return PostgresServer(embedded.url(), embedded.data, embedded)

    @cached_property
    def gcs(self) -> GcsServer:
        return self._stack.enter_context(gcs_server(self._folder / "gcs"))

    @cached_property
    def bigquery(self) -> BigQueryServer:
        (self._folder / "bigquery").mkdir(parents=True)
        return self._stack.enter_context(bigquery_server(self._folder / "bigquery"))


@dataclass
class Tally:
    """What was done to one sink, and what came of it."""

    faults: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    wrong: int = 0
    left: int = 0


def torment(place: Place, chance: random.Random, seconds: float) -> Tally:
    """Load a month under one fault after another for so long."""
    tally, ends, months = Tally(), time.monotonic() + seconds, Months.in_place(place)
    usual = seconds_to_replace(place, months.old)
    kinds = [*EVERYWHERE, *place.faults]
    while time.monotonic() < ends:
        (kind,) = chance.choices(kinds, [WEIGHTS.get(kind, 1) for kind in kinds])
        tally.faults[kind] += 1
        what = f"{place.name}, {kind} (number {tally.faults.total()})"
        place.replace(months.old)
        allowed = {contents_of(trips) for trips in (months.old, months.new, months.rival)}
        try:
            with reader(place, JANUARY, allowed, rest=4) as seen:
                tally.kept[disaster(place, kind, months, chance, usual)] += 1
        except LeftBehind as error:
            tally.left += 1
            print(f"{what}: {error}", file=sys.stderr)
        except Exception as error:  # noqa: BLE001 - whatever it is, it was not promised
            tally.wrong += 1
            print(f"{what}: {error!r}", file=sys.stderr)
            place.replace(months.other)
        tally.looks += seen.looks
        if seen.wrong:
            tally.wrong += 1
            print(f"{what}: a reader saw {seen.wrong[0]}", file=sys.stderr)
    return tally


def table(tallies: dict[str, Tally]) -> str:
    """The result, a row a sink."""
    kinds = list(dict.fromkeys(kind for tally in tallies.values() for kind in sorted(tally.faults)))
    rows = [["sink", *kinds, "kept old", "became new", "looks", "wrong outcomes", "leftovers"]]
    for name, tally in tallies.items():
        numbers = [*(tally.faults[kind] for kind in kinds), tally.kept["old"], tally.kept["new"]]
        rows.append([name, *map(str, [*numbers, tally.looks, tally.wrong, tally.left])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m taxi_assets_tests.chaos")
    parser.add_argument("--seconds", type=float, default=600, help="for all sinks together (default: 600)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--sink", nargs="+", choices=list(SINKS), default=list(SINKS), help="default: every sink")
    given = parser.parse_args()
    print(f"Seed {given.seed}: repeat with --seed {given.seed} --seconds {given.seconds:g}", file=sys.stderr)
    sinks = list(given.sink)
    try:
        if "bigquery" in sinks:
            emulator.prepare()
    except emulator.Unavailable as reason:
        print(f"Without bigquery: {reason}.", file=sys.stderr)
        sinks.remove("bigquery")
    tallies: dict[str, Tally] = {}
    ends = time.monotonic() + given.seconds
    with tempfile.TemporaryDirectory(prefix="taxi-chaos-") as folder, ExitStack() as stack:
        servers = Servers(Path(folder) / "servers", stack)
        for number, name in enumerate(sinks):
            chance = random.Random(f"{given.seed} {name}")
            with place_of(name, servers, Path(folder) / name) as place:
                share = SHARES.get(name, 1) / sum(SHARES.get(later, 1) for later in sinks[number:])
                tallies[name] = torment(place, chance, share * (ends - time.monotonic()))
            print(f"{name}: {tallies[name].faults.total()} faults", file=sys.stderr)
    print(table(tallies))
    bad = sum(tally.wrong + tally.left for tally in tallies.values())
    if bad:
        print(f"{bad} outcomes are wrong; repeat with --seed {given.seed}.", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
