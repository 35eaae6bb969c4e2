"""Defines the checks of an asset's month: blocking ones and warnings.

The blocking checks are in `checks`, the warnings in `month_warnings` and `raw_warnings`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from taxi_assets.assets.concurrent_runs import replaced_by_another
from taxi_assets.core.failures import RETRY, explained
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import key, monthly
from taxi_assets.sinks.contract import requested_months

CAUSES = "causes"
"""Metadata of a check: the message by cause, a key that is the same in every month (such as a column)."""

Problems = tuple[list[str], dict[str, Any]]
"""What is wrong with a month, one sentence each (none: the check passes), and metadata to show, among it `CAUSES`."""


@dataclass(frozen=True)
class MonthCheck:
    """A check of an asset's month; the description says when it fails, and what to do.

    `look` finds the problems of a month, with the step's resources; of several months in a run the distinct messages are joined.
    With `warn` the check does not block: its problems are a warning in the log and in the UI.
    """

    name: str
    description: str
    look: Callable[[Month, Any], Problems]
    warn: bool = False


def define_checks(
    kind: TaxiKind, asset: str, resources: Iterable[str], *checks: MonthCheck, pool: str | None = None
) -> dg.AssetChecksDefinition:
    """Define the checks of the asset with this name (without the kind's prefix), which read from these resources, as one step in
    `pool`: a step of their own each would cost Dagster more time than their work."""
    asset_key = key(kind, asset)

    @dg.multi_asset_check(
        name=f"{asset_key.to_python_identifier()}_checks",
        specs=[
            dg.AssetCheckSpec(
                check.name,
                asset=asset_key,
                description=check.description,
                blocking=not check.warn,
                partitions_def=monthly(kind),
            )
            for check in checks
        ],
        required_resource_keys=set(resources),
        retry_policy=RETRY,
        pool=pool,
        can_subset=True,
    )
    def check_month(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        run = context.op_execution_context
        compared = (key(kind, "clean_trips"), asset_key)
        selected = {each.name for each in run.selected_asset_check_keys}
        months = requested_months(run.run.tags, run.partition_keys)
        for check in checks:
            if check.name in selected:
                with explained(f"check {check.name}"):
                    found = {month: check.look(month, context.resources) for month in months}
                for month, (problems, _) in found.items():
                    if problems and not check.warn:
                        problems[:0] = replaced_by_another(run.instance, run.run_id, compared, month)
                result = _result(check, found)
                if check.warn and not result.passed:
                    context.log.warning(result.description)
                yield result

    return check_month


def _result(check: MonthCheck, found: Mapping[Month, Problems]) -> dg.AssetCheckResult:
    problems = [problem for problems, _ in found.values() for problem in problems]
    causes: dict[str, str] = {}
    metadata: dict[str, Any] = {str(month): about for month, (_, about) in found.items()}
    for about in metadata.values():
        for cause, sentence in about.pop(CAUSES, {}).items():
            causes[cause] = f"{causes[cause]} {sentence}" if cause in causes else sentence
    shown = next(iter(metadata.values())) if len(metadata) == 1 else metadata
    return dg.AssetCheckResult(
        check_name=check.name,
        passed=not problems,
        severity=dg.AssetCheckSeverity.WARN if check.warn else dg.AssetCheckSeverity.ERROR,
        description=" ".join(dict.fromkeys(problems)) or None,
        metadata={name: _shown(value) for name, value in (shown | ({CAUSES: causes} if causes else {})).items()},
    )


def _shown(value: Any) -> Any:
    return dg.MetadataValue.json(value) if isinstance(value, dict) else value
