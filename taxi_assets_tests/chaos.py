"""The contract of the sinks at length: random faults in a loop over every sink, and a reader polling all the while.

    python -m taxi_assets_tests.chaos [--seconds 600] [--kills 50] [--seed N] [--sink NAME ...]

First every sink in turn until its writers were killed so many times, then round after round until the time is up. Prints
a table of what was done and what came of it, and ends with 1 if any outcome was wrong, anything was left behind, or a
sink had too few kills when three times the time was over. Only what struck a writer at work is counted. The same seed
makes the same choices; what they hit depends on the machine's pace.
"""

from __future__ import annotations

import argparse
import datetime as dt
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path

from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.bigquery_fixtures import BigQueryServer, bigquery_server
from taxi_assets_tests.emulators import bigquery as emulator
from taxi_assets_tests.gcs_fixtures import GcsServer, gcs_server
from taxi_assets_tests.postgres_fixtures import PostgresServer
from taxi_assets_tests.sinks.contract import EVERYWHERE, LeftBehind, Months, disaster, reader
from taxi_assets_tests.sinks.places import SINKS, place_of
from taxi_assets_tests.sinks.places.base import JANUARY, Place, contents_of

KILL = "kill -9"
WEIGHTS = {KILL: 12, "server killed": 0.5}
"""How often a fault is chosen, where not as often as any other."""


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

    chance: random.Random
    faults: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    wrong: int = 0
    left: int = 0
    seconds: float = 0


def torment(place: Place, tally: Tally, ends: float, kills: int, at_last: float) -> None:
    """Load a month under one fault after another: until `ends`, and on until there were so many kills, or `at_last`."""
    begun, months = time.monotonic(), Months.in_place(place)
    allowed = {contents_of(trips) for trips in (months.old, months.new, months.rival)}
    kinds = [*EVERYWHERE, *place.faults]
    while time.monotonic() < (at_last if tally.faults[KILL] < kills else ends):
        (kind,) = tally.chance.choices(kinds, [WEIGHTS.get(kind, 1) for kind in kinds])
        what = f"{place.name}, {kind} (number {tally.faults.total() + 1})"
        try:
            with reader(place, JANUARY, allowed, rest=4) as seen:
                outcome = disaster(place, kind, months, tally.chance)
            if outcome.struck:
                tally.faults[kind] += 1
                tally.kept[outcome.kept] += 1
            months = months.after(outcome.now)
        except Exception as error:  # noqa: BLE001 - whatever it is, it was not promised
            tally.faults[kind] += 1
            tally.left += (left := isinstance(error, LeftBehind))
            tally.wrong += not left
            print(f"{what}: {error!r}", file=sys.stderr)
            for trips in (months.other, months.old):
                place.replace(trips)
        tally.looks += seen.looks
        if seen.wrong:
            tally.wrong += 1
            print(f"{what}: a reader saw {seen.wrong[0]}", file=sys.stderr)
    tally.seconds += time.monotonic() - begun


def table(tallies: dict[str, Tally]) -> str:
    """The result, a row a sink."""
    kinds = list(dict.fromkeys(kind for tally in tallies.values() for kind in sorted(tally.faults)))
    rows = [["sink", *kinds, "kept old", "became new", "looks", "seconds", "wrong outcomes", "leftovers"]]
    for name, tally in tallies.items():
        numbers = [*(tally.faults[kind] for kind in kinds), tally.kept["old"], tally.kept["new"]]
        rows.append([name, *map(str, [*numbers, tally.looks, round(tally.seconds), tally.wrong, tally.left])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m taxi_assets_tests.chaos")
    parser.add_argument("--seconds", type=float, default=600, help="for all sinks together (default: 600)")
    parser.add_argument("--kills", type=int, default=50, help="at least, of every sink's writers (default: 50)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--sink", nargs="+", choices=list(SINKS), default=list(SINKS), help="default: every sink")
    given = parser.parse_args()
    print(f"Seed {given.seed}: repeat with --seed {given.seed}", file=sys.stderr)
    sinks = list(given.sink)
    try:
        if "bigquery" in sinks:
            emulator.prepare()
    except emulator.Unavailable as reason:
        print(f"Without bigquery: {reason}.", file=sys.stderr)
        sinks.remove("bigquery")
    tallies = {name: Tally(random.Random(f"{given.seed} {name}")) for name in sinks}
    begun = time.monotonic()
    ends, at_last = begun + given.seconds, begun + 3 * given.seconds
    with tempfile.TemporaryDirectory(prefix="taxi-chaos-") as folder, ExitStack() as stack:
        servers = Servers(Path(folder) / "servers", stack)
        for turn in count():
            for number, (name, tally) in enumerate(tallies.items()):
                share = (ends - time.monotonic()) / (len(sinks) - number) if turn else 0
                with place_of(name, servers, Path(folder) / f"{name}-{turn}") as place:
                    torment(place, tally, time.monotonic() + share, given.kills, at_last)
                print(f"{name}: {tally.faults.total()} faults after {time.monotonic() - begun:.0f} s", file=sys.stderr)
            if time.monotonic() > ends:
                break
    print(f"{dt.datetime.now():%Y-%m-%d %H:%M}, {time.monotonic() - begun:.0f} s, seed {given.seed}")
    print(table(tallies))
    few = [f"{name} ({tally.faults[KILL]})" for name, tally in tallies.items() if tally.faults[KILL] < given.kills]
    if few:
        print(f"Fewer than {given.kills} kills: {', '.join(few)}; give it more time.", file=sys.stderr)
    bad = sum(tally.wrong + tally.left for tally in tallies.values())
    if bad:
        print(f"{bad} outcomes are wrong; repeat with --seed {given.seed}.", file=sys.stderr)
    return 1 if bad or few else 0


if __name__ == "__main__":
    sys.exit(main())
