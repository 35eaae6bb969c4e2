"""Where dimensions are kept: the contract of such a place, and the IO manager that keeps a dimension in several of them.

Every place replaces a dimension as a whole and atomically, and records where it came from. A generated dimension never
replaces a real one.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import dagster as dg

from taxi_assets.core.dimension import Dimension
from taxi_assets.core.errors import PermanentError, TaxiError
from taxi_assets.core.failures import explained
from taxi_assets.core.run_tags import DAGSTER_BACKFILL
from taxi_assets.core.table import Table
from taxi_assets.sinks.contract import PARTITION_TAGS, WriteContext, table_of, wants_frame

RECORDS = "dimension_manifests"
"""The table of a database with what is recorded of its dimensions."""


def loads_months(tags: Mapping[str, str]) -> bool:
    """Return whether a run with these tags is of a month, of a range of months, or of a backfill of them."""
    return not tags.keys().isdisjoint((*PARTITION_TAGS, DAGSTER_BACKFILL))


class DimensionPlace(ABC):
    """A place that keeps dimensions: the lake, or a database."""

    @abstractmethod
    def replace(self, table: Table, dimension: Dimension, write: WriteContext) -> None:
        """Replace the whole table, atomically; it is created when missing.

        Raises:
            TransientError, PermanentError: the table is unchanged.
        """

    @abstractmethod
    def read(self, table: Table) -> Dimension | None:
        """Return what was kept here; None if nothing was."""

    @abstractmethod
    def where(self, table: Table) -> str:
        """The location of the table, for display."""


class DimensionIOManager(dg.IOManager):
    """Keeps a dimension in every place of `places`, by name, in their order; it is loaded from the first."""

    def __init__(self, places: Mapping[str, DimensionPlace]) -> None:
        self.places = places

    def handle_output(self, context: dg.OutputContext, obj: Dimension | None) -> None:
        """Replace the dimension in every place that does not have it; None leaves all as they are.

        A place that fails does not keep the dimension from the others. In a run that loads months it is a warning: no month
        depends on a dimension.
        """
        if obj is None:
            return
        table, tags = table_of(context), context.step_context.run_tags
        write = WriteContext(context.run_id, uuid.uuid4().hex[:12], context.log.info, tags)
        with explained(table.name):
            metadata, errors = self.publish(table, obj, write)
            context.add_output_metadata(metadata)
            if errors and not loads_months(tags):
                raise errors[0]
        for error in errors:
            context.log.warning(str(error))

    def publish(
        self, table: Table, dimension: Dimension, write: WriteContext
    ) -> tuple[dict[str, Any], list[TaxiError]]:
        """Replace the dimension in every place that does not have it; return metadata, and the errors of places.

        Instead of a generated dimension, the real one that a place has is kept in all of them. Rows of unknown origin may be
        real: they stay where they are.
        """
        held: dict[str, Dimension | None] = {}
        errors: list[TaxiError] = []
        for name, place in self.places.items():
            try:
                held[name] = place.read(table)
            except TaxiError as error:
                errors.append(error)
        real = next((each for each in held.values() if each and each.generated is False), None)
        if dimension.generated and real:
            write.log("Real rows are loaded and stay; the generated ones of this source are not used.")
            dimension = real
        written = []
        for name, old in held.items():
            if old and (old.same_as(dimension) or (dimension.generated and old.generated is None)):
                continue
            try:
                self.places[name].replace(table, dimension, write)
                written.append(name)
            except TaxiError as error:
                errors.append(error)
        rows, extra = dimension.rows.num_rows, dimension.manifest.extra
        origin = "GENERATED sample: " if dimension.generated else ""
        write.log(f"{origin}{rows:,} rows {'in ' + ', '.join(written) if written else 'unchanged'}.")
        shown = ("source", "location", "generated", "sha256")
        return {
            "dagster/row_count": rows,
            **{name: extra[name] for name in shown if name in extra},
            "written": ", ".join(written) or "nothing: unchanged",
            **{f"{name}_location": place.where(table) for name, place in self.places.items()},
        }, errors

    def read(self, table: Table) -> Dimension | None:
        """Return what the first place has; None if it was never materialized."""
        return next(iter(self.places.values())).read(table)

    def load_input(self, context: dg.InputContext) -> Any:
        """Load the rows as a table, or as a data frame if the reader annotates one."""
        assert context.upstream_output is not None
        table = table_of(context.upstream_output)
        with explained(table.name):
            dimension = self.read(table)
            if dimension is None:
                raise PermanentError(f"{table.name} was never loaded; materialize it first.")
        return dimension.rows.to_pandas() if wants_frame(context) else dimension.rows
