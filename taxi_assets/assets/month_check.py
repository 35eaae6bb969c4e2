"""Defines an asset check per month: blocking, or a warning.

The blocking checks are in `checks`, the warnings in `month_warnings`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from taxi_assets.core.failures import RETRY, explained
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import key, monthly

CAUSES = "causes"
"""Metadata of a check: the message by cause, a key that is the same in every month (such as a column)."""

Problems = tuple[list[str], dict[str, Any]]
"""What is wrong with a month, one sentence each (none: the check passes), and metadata to show, among it `CAUSES`."""


def month_check(
    kind: TaxiKind,
    asset: str,
    name: str,
    io_managers: set[str],
    description: str,
    look: Callable[[Month, dict[str, Any]], Problems],
    warn: bool = False,
) -> dg.AssetChecksDefinition:
    """Define a check of one asset per month.

    Args:
        kind: the taxi kind of the asset.
        asset: the asset's name without the kind's prefix.
        name: the check's name.
        io_managers: the resources that `look` reads from.
        description: when it fails, and what to do.
        look: finds the problems of a month; of several months in a run the distinct messages are joined.
        warn: the check does not block; its problems are a warning in the log and in the UI.
    """

    @dg.asset_check(
        asset=key(kind, asset),
        name=name,
        description=description,
        blocking=not warn,
        partitions_def=monthly(kind),
        required_resource_keys=io_managers,
        retry_policy=RETRY,
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        managers = {name: getattr(context.resources, name) for name in io_managers}
        problems: list[str] = []
        found: dict[str, dict[str, Any]] = {}
        causes: dict[str, str] = {}
        with explained(f"check {name}"):
            for month in _months(context):
                sentences, metadata = look(month, managers)
                problems += sentences
                found[str(month)] = {k: v for k, v in metadata.items() if k != CAUSES}
                for cause, sentence in metadata.get(CAUSES, {}).items():
                    causes[cause] = f"{causes[cause]} {sentence}" if cause in causes else sentence
        text = " ".join(dict.fromkeys(problems))
        if warn and problems:
            context.log.warning(text)
        shown = next(iter(found.values())) if len(found) == 1 else found
        return dg.AssetCheckResult(
            passed=not problems,
            severity=dg.AssetCheckSeverity.WARN if warn else dg.AssetCheckSeverity.ERROR,
            description=text or None,
            metadata={k: _shown(v) for k, v in (shown | ({CAUSES: causes} if causes else {})).items()},
        )

    return check


def _shown(value: Any) -> Any:
    return dg.MetadataValue.json(value) if isinstance(value, dict) else value


def _months(context: dg.AssetCheckExecutionContext) -> Iterator[Month]:
    yield from (Month.parse(partition) for partition in context.op_execution_context.partition_keys)
