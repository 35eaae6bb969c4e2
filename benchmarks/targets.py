"""What is promised, as ratios within one run; and whether a run keeps what the recorded one had."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.measure import Sample, paired

API_TO_POSTGRES_FLOORS = ("floor_decode", "floor_parse", "floor_write_raw", "floor_write_clean", "floor_copy")
GRAPH_FLOORS = (*API_TO_POSTGRES_FLOORS, "floor_copy_bytes", "floor_day_folders", "floor_duckdb", "noop_graph")
TOLERANCE = 0.25
"""How much worse than recorded a ratio may be on another day or machine."""


@dataclass(frozen=True)
class Target:
    """`combine(sum of top, sum of bottom)` in one round compared with `limit`; `least`: it must be at least that.

    Both name cases, or what a case reported itself: `graph.checks`.
    """

    name: str
    what: str
    top: tuple[str, ...]
    bottom: tuple[str, ...]
    limit: float
    least: bool = False
    combine: Callable[[float, float], float] = operator.truediv
    unit: str = "x"
    at_best: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    """Top and bottom if ours cost no more than its floors and Dagster's no-op graph: what bounds the target."""

    def value(self, samples: Mapping[str, Sequence[Sample]]) -> float | None:
        """The median over the rounds; None when a case was not measured."""
        return paired(self.top, self.bottom, samples, self.combine)

    def bound(self, samples: Mapping[str, Sequence[Sample]]) -> float | None:
        """The value at best; None when that is not known or was not measured."""
        return paired(*self.at_best, samples, self.combine) if self.at_best else None

    def met(self, value: float) -> bool:
        """Whether the promise is kept."""
        return value >= self.limit if self.least else value <= self.limit

    def worse(self, value: float, recorded: float) -> bool:
        """Whether `value` is worse than `recorded` by more than the tolerance (of a fifth of the limit, where that is more)."""
        slack = TOLERANCE * max(abs(recorded), 0.2 * self.limit)
        return value < recorded - slack if self.least else value > recorded + slack


TARGETS = (
    Target("faster than Mage, API to Postgres", "Mage's time over ours, process start included",
           ("mage_api_to_postgres",), ("api_to_postgres",), 5, least=True,
           at_best=(("mage_api_to_postgres",), (*API_TO_POSTGRES_FLOORS, "noop_graph"))),
    Target("faster than dlt, API to Postgres", "dlt's time over ours, process start included",
           ("dlt_api_to_postgres",), ("api_to_postgres",), 1.2, least=True,
           at_best=(("dlt_api_to_postgres",), (*API_TO_POSTGRES_FLOORS, "noop_graph"))),
    Target("API to Postgres without Dagster, over its floors", "library calls over the sum of the floors",
           ("library_api_to_postgres",), API_TO_POSTGRES_FLOORS, 1.5),
    Target("Postgres sink over the pre-encoded COPY", "the sink's whole replace over the floor",
           ("sink_postgres",), ("floor_copy",), 1.15, at_best=(("floor_copy_replacing",), ("floor_copy",))),
    Target("faster than Mage's three pipelines", "their time over our six assets with all checks",
           ("mage_three_pipelines",), ("graph",), 8, least=True, at_best=(("mage_three_pipelines",), GRAPH_FLOORS)),
    Target("six assets over floors and no-op graph", "our graph over the floors' sum plus a no-op graph of its shape",
           ("graph",), GRAPH_FLOORS, 1.6),
    Target("added to import dagster", "import of our definitions less import of dagster",
           ("import_package",), ("import_dagster",), 0.5, combine=operator.sub, unit=" s"),
    Target("share of the checks", "the check steps' time, of the graph's in the same run",
           ("graph.checks",), ("graph",), 0.1, unit=""),
)  # fmt: skip


def values(samples: Mapping[str, Sequence[Sample]]) -> dict[str, float]:
    """Every target that could be measured."""
    return {target.name: value for target in TARGETS if (value := target.value(samples)) is not None}


def bounds(samples: Mapping[str, Sequence[Sample]]) -> dict[str, float]:
    """What bounds a target, where that was measured."""
    return {target.name: value for target in TARGETS if (value := target.bound(samples)) is not None}


def regressions(now: Mapping[str, float], recorded: Mapping[str, float]) -> list[str]:
    """A sentence for each ratio that is worse than recorded by more than the tolerance."""
    return [
        f"{target.name}: {now[target.name]:.2f}, recorded {recorded[target.name]:.2f} "
        f"(the promise: at {'least' if target.least else 'most'} {target.limit:g})."
        for target in TARGETS
        if target.name in now and target.name in recorded and target.worse(now[target.name], recorded[target.name])
    ]
