"""Plays random histories for some time: `python -m taxi_assets_tests.simulation [--seconds 60] [--seed 0]`."""

from __future__ import annotations

import argparse
import itertools
import sys
import time

from taxi_assets_tests.simulation.history import find_wrong


def main() -> int:
    """Play histories; print the first that ends wrongly, made as short as possible, and return 1 then."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    started = time.monotonic()
    for first in itertools.count(options.seed, 100):
        if wrong := find_wrong(range(first, first + 100)):
            print(wrong)
            return 1
        if (elapsed := time.monotonic() - started) > options.seconds:
            played = first + 100 - options.seed
            print(
                f"{played:,} histories, from seed {options.seed}: all end well ({60 * played / elapsed:,.0f} a minute)."
            )
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
