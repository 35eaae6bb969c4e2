"""Sensors that launch runs: when the publisher has a new or changed month, and when clean_trips has a newer one."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

import dagster as dg

from taxi_assets.assets.month_status import month_status, resource_keys, run_config
from taxi_assets.assets.publisher import new_observations
from taxi_assets.core import run_tags
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import CODE_VERSION, REPORTS, SINKS, group, job_name, months
from taxi_assets.settings import Settings
from taxi_assets.status.decide import Decision, MonthRecord, State, count, ranges, rotate
from taxi_assets.status.plan import new_and_changed
from taxi_assets.status.probing import ProbeResults, probe_months

NEWEST = 4
"""Newest months probed by every tick, and loaded as soon as they are published (up to 105 days late, median 51)."""
OLDER = 6
"""Older months probed by a tick, in rotation: 200 months are reached within six hours of ten-minute ticks."""
RUN_KEY = "dagster/run_key"


@dataclass
class Cursor:
    """The older month that was probed last, and the older months that are published but not loaded."""

    after: str | None = None
    not_loaded: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str | None) -> "Cursor":
        """Read a cursor; an invalid one (an operator can edit it) counts as empty."""
        try:
            return cls(**json.loads(text)) if text else cls()
        except (ValueError, TypeError):
            return cls()

    def dump(self) -> str:
        """Return the cursor as text."""
        return json.dumps(asdict(self))

    def update(self, rotation: list[Month], older: list[Decision]) -> None:
        """Advance past the older months that were answered, and remember which of them are published but not loaded."""
        answered = {str(decision.month) for decision in older}
        missing = {str(decision.month) for decision in older if decision.state is State.MISSING}
        self.not_loaded = sorted((set(self.not_loaded) - answered) | missing)
        for month in map(str, rotation):
            if month not in answered:
                break
            self.after = month


def status(settings: Settings) -> dg.DefaultSensorStatus:
    """Return whether sensors are on by default."""
    return dg.DefaultSensorStatus.RUNNING if settings.automated else dg.DefaultSensorStatus.STOPPED


def new_months_sensor(kind: TaxiKind, settings: Settings) -> dg.SensorDefinition:
    """Define the sensor that loads new and changed months: one run for each month and version."""
    name = f"new_{kind.name}_months"

    @dg.sensor(
        name=name,
        job_name=job_name(kind),
        minimum_interval_seconds=settings.sensor_seconds,
        default_status=status(settings),
        required_resource_keys=resource_keys(settings),
        description=f"Loads a {kind.name} month when it is published or republished. Each tick checks the {NEWEST} newest "
        f"months and {OLDER} older ones, in rotation. Older months that were never loaded are listed, not loaded.",
    )
    def new_months(context: dg.SensorEvaluationContext):
        cursor = Cursor.parse(context.cursor)
        every = months(kind)
        newest, rotation = every[-NEWEST:], rotate(every[:-NEWEST], cursor.after, OLDER)
        results = probe_months(context.resources.publisher.open(), kind, [*reversed(newest), *rotation])
        assert context.repository_def is not None
        origin, graph = context.code_location_origin, context.repository_def.asset_graph
        location = origin.location_name if origin else None
        months_status = month_status(context.instance, graph, kind, settings, context.resources, location)
        recorded = months_status.read(list(results.published))
        decisions = months_status.decide(results.published, recorded)
        cursor.update(rotation, [decision for decision in decisions if decision.month not in newest])
        context.update_cursor(cursor.dump())
        to_load = new_and_changed(decisions, newest)
        keys = {
            d.month: f"{kind.name}-{d.month}-{loaded_version(recorded[d.month])}->{results.version(d.month)}"
            for d in to_load
        }
        launched = launched_keys(context.instance, name, keys.values())
        attempted = [month for month, key in keys.items() if key in launched]
        due = [month for month in keys if month not in attempted]
        text = summary(results, decisions, due, attempted, cursor, kind_option(kind, settings))
        observed = new_observations(context.instance, kind, results.published)
        if not due:
            return dg.SensorResult(skip_reason=text, asset_events=observed)
        context.log.info(text)
        lake = months_status.assets
        assets = (lake.raw, lake.clean, lake.rejected) if settings.automation == "declarative" else None
        requests = [
            dg.RunRequest(
                run_key=keys[decision.month],
                partition_key=decision.month.key,
                run_config=run_config(kind, decision),
                tags=tags_of_run(f"sensor {name}", results.version(decision.month)),
                **months_status.request_arguments(assets),
            )
            for decision in to_load
            if decision.month in due
        ]
        return dg.SensorResult(requests, asset_events=observed)

    return new_months


def launched_keys(instance: dg.DagsterInstance, sensor: str, keys: Iterable[str]) -> set[str]:
    """Return those run keys that the sensor has launched already: Dagster silently launches none of them again."""
    if not (requested := list(keys)):
        return set()
    runs = instance.get_runs(dg.RunsFilter(tags={RUN_KEY: requested, "dagster/sensor_name": sensor}))
    return {run.tags[RUN_KEY] for run in runs}


def summary(
    results: ProbeResults,
    decisions: list[Decision],
    due: Sequence[Month],
    attempted: Sequence[Month],
    cursor: Cursor,
    option: str,
) -> str:
    """Describe a tick: what was checked, what prevents loading, and what an operator may want to do.

    `option` is the `kind_option` of the commands.
    """
    lines = [results.error] if results.error else []
    if decisions:
        checked = f"Checked {count(len(decisions))} ({ranges(d.month for d in decisions)})"
        lines.append(f"{checked}: {f'loading {ranges(due)}' if due else 'nothing new'}.")
    if attempted:
        lines.append(
            f"{ranges(attempted)}: already attempted and failed; reconciliation retries it, up to three times."
        )
    lines += [
        f"{d.month}: {d.state.value}." for d in decisions if d.state in (State.CHANGED, State.RUNNING, State.UNFINISHED)
    ]
    lines += [
        f"{d}; if TAXI_SOURCE is right, load it with make run MONTH={d.month}{option}."
        for d in decisions
        if d.state is State.OTHER_SOURCE
    ]
    if cursor.not_loaded:
        months = [Month.parse(month) for month in cursor.not_loaded]
        lines.append(
            f"Older months that are published and not loaded: {ranges(months)}. To load them: make backfill "
            f"FROM={months[0]} TO={months[-1]}{option}"
        )
    return " ".join(lines)


def kind_option(kind: TaxiKind, settings: Settings) -> str:
    """Return the option of `make run` and `make backfill` that names the kind; none for the first of TAXI_KINDS."""
    return "" if kind == settings.taxi_kinds[0] else f" KIND={kind.name}"


def tags_of_run(starter: str, source_version: str | None) -> dict[str, str]:
    """Return the tags of a run that automation launches."""
    tags = {run_tags.STARTED_BY: starter, run_tags.CODE_VERSION: CODE_VERSION}
    return {**tags, run_tags.SOURCE_VERSION: source_version} if source_version else tags


def loaded_version(record: MonthRecord) -> str | None:
    """Return the version of the published file that the month was loaded from, where it is recorded."""
    versions = (manifest.extra.get("version") for manifest in record.manifests.values())
    return next((version for version in versions if version), None)


def sinks_follow(kind: TaxiKind, settings: Settings) -> dg.AutomationConditionSensorDefinition:
    """Define the sensor that evaluates the sinks' automation conditions (TAXI_AUTOMATION=declarative)."""
    return dg.AutomationConditionSensorDefinition(
        f"{kind.name}_sinks_follow_clean_trips",
        target=dg.AssetSelection.groups(group(kind, SINKS), group(kind, REPORTS)),
        default_status=status(settings),
        run_tags={
            run_tags.STARTED_BY: "declarative automation",
            run_tags.CODE_VERSION: CODE_VERSION,
            "taxi": kind.name,
        },
        description="Materializes a month of a sink when clean_trips has a newer one that passed its blocking checks.",
    )
