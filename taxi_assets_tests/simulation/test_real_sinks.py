"""Some of the random histories, with real sinks: Postgres, DuckDB, an object and day folders in a directory."""

from __future__ import annotations

import os
import random

import pytest

from taxi_assets_tests.simulation.history import random_history, simulate
from taxi_assets_tests.simulation.real import RealWorld

HISTORIES = int(os.environ.get("REAL_HISTORIES") or 2)
"""REAL_HISTORIES=100 plays a hundred, in some minutes."""


@pytest.mark.long
@pytest.mark.parametrize("seed", range(HISTORIES))
def test_a_random_history_ends_well_in_real_sinks(seed, tmp_path, postgres_url):
    world = RealWorld(folder=tmp_path, postgres_url=postgres_url)
    simulate(random_history(random.Random(seed)), world=world)
