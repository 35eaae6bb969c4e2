"""The months of a dataset: what is recorded of them, and what to do about each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from taxi_assets.core.errors import TaxiError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.publisher.published import Published
from taxi_assets.status.decide import Assets, Decision, Expected, MonthRecord, decide
from taxi_assets.status.manifests import Recorders, read_manifests
from taxi_assets.status.run_history import RunHistory

AssetGraph = Any
"""`RepositoryDefinition.asset_graph`; Dagster has no public name for its type."""


class MonthGraph:
    """The monthly assets of a dataset in the asset graph of the code location, and their checks.

    Without a graph there are no checks: the audit's own op has none.
    """

    def __init__(self, graph: AssetGraph | None, assets: Assets) -> None:
        self._graph: Any = graph
        self.assets = assets
        self.keys = {name: dg.AssetKey.from_user_string(name) for name in assets.all}

    @property
    def blocking_checks(self) -> list[dg.AssetCheckKey]:
        """The blocking checks of the assets."""
        return [check for check in self.checks(self.keys.values()) if self._graph.get(check).blocking]

    def selection(self, assets: Iterable[str]) -> list[dg.AssetKey]:
        """Return the keys of the assets and of those that are always materialized together with them."""
        keys = {self.keys[name] for name in assets}
        for asset in list(keys):
            keys |= {k for k in self._graph.get(asset).execution_set_entity_keys if isinstance(k, dg.AssetKey)}
        return sorted(keys)

    def request_arguments(self, assets: Iterable[str] | None) -> dict[str, Any]:
        """Return the arguments of a RunRequest for these assets and their checks; none for the whole job."""
        if assets is None:
            return {}
        keys = self.selection(assets)
        return {"asset_selection": keys, "asset_check_keys": self.checks(keys)}

    def checks(self, assets: Iterable[dg.AssetKey]) -> list[dg.AssetCheckKey]:
        """Return the partitioned checks of the assets."""
        checks = self._graph.get_check_keys_for_assets(set(assets)) if self._graph else ()
        return sorted(check for check in checks if self._graph.get(check).partitions_def is not None)


class MonthStatus(MonthGraph):
    """The months of a kind of taxi; `location` is the name of this code location, if it is known."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        graph: AssetGraph | None,
        kind: TaxiKind,
        expected: Expected,
        recorders: Recorders,
        assets: Assets,
        location: str | None = None,
    ) -> None:
        super().__init__(graph, assets)
        self._recorders, self._expected = recorders, expected
        self.history = RunHistory(instance, kind, self.keys, location)

    def read(
        self, months: Sequence[Month] | None = None, unreadable: dict[str, TaxiError] | None = None
    ) -> dict[Month, MonthRecord]:
        """Read the records of the months, as `read_manifests` does; by default of every month that is recorded or being loaded.

        Raises:
            TaxiError: the lake or a sink cannot be read.
        """
        manifests = read_manifests(self._recorders, months, unreadable)
        running, failures = self.history.running(), self.history.failures()
        if months is None:
            months = sorted(manifests.keys() | {Month.parse(partition) for partition in running})
        checks = self.history.failed_checks(self.blocking_checks, months)
        return {
            m: MonthRecord(manifests.get(m, {}), running.get(m.key), failures.get(m.key, {}), checks.get(m, {}))
            for m in months
        }

    def decide(
        self, published: Mapping[Month, Published | None], recorded: Mapping[Month, MonthRecord]
    ) -> list[Decision]:
        """Decide about each of the recorded months; those that are not in `published` were not probed."""
        return [
            decide(month, published.get(month), record, self.assets, self._expected, probed=month in published)
            for month, record in recorded.items()
        ]
