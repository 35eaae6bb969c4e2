"""Sensors: what starts runs when something happens at the publisher, or to clean_trips.

What is to be done about a month is `judging`'s decision; alerts are in `alerts`.
"""

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

import dagster as dg

from taxi_assets.assets.common import CODE_VERSION, REPORTS, SINKS, group
from taxi_assets.assets.ingest import Publisher
from taxi_assets.assets.jobs import job_name
from taxi_assets.core import run_tags
from taxi_assets.core.month import Month
from taxi_assets.core.partitions import monthly
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.settings import Settings
from taxi_assets.status.decide import Judgement, State, judge, ranges, rotate
from taxi_assets.status.month_records import MonthRecords
from taxi_assets.status.probing import Answers, ask

NEWEST = 4
"""Newest months asked for at every tick, and loaded as soon as they are published (up to 105 days late, median 51)."""
WINDOW = 6
"""Older months asked for at a tick, in turn: 200 months have their turn within six hours of ten-minute ticks."""
RUN_KEY = "dagster/run_key"
TOLD = (State.CHANGED, State.RUNNING, State.UNFINISHED)
DECLARATIVE_LOOKBACK = dt.timedelta(days=31 * 13)
"""How far back months are that sinks follow by conditions: a year of corrections, and the publisher's delay."""


@dataclass
class Cursor:
    """What a sensor remembers: the older month it asked for last, and which older months are published and not loaded."""

    after: str | None = None
    offered: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, text: str | None) -> "Cursor":
        """The cursor; a new one where the text is not ours (an operator may have edited it)."""
        try:
            return cls(**json.loads(text)) if text else cls()
        except (ValueError, TypeError):
            return cls()

    def write(self) -> str:
        """As text."""
        return json.dumps(asdict(self))


def status(settings: Settings) -> dg.DefaultSensorStatus:
    """Whether sensors run without being switched on."""
    return dg.DefaultSensorStatus.RUNNING if settings.automated else dg.DefaultSensorStatus.STOPPED


def new_months_sensor(kind: TaxiKind, settings: Settings) -> dg.SensorDefinition:
    """Asks the publisher for new and changed months, and for a run of each: one a month and version."""
    name = f"new_{kind.name}_months"

    @dg.sensor(
        name=name,
        job_name=job_name(kind),
        minimum_interval_seconds=settings.sensor_seconds,
        default_status=status(settings),
        description=f"Loads a {kind.name} month when it is published or published anew. Each tick asks for the {NEWEST} "
        f"newest months and {WINDOW} older ones, in turn. Older months that were never loaded are offered, not launched.",
    )
    def new_months(context: dg.SensorEvaluationContext, publisher: Publisher):
        cursor = Cursor.read(context.cursor)
        months = [Month.parse(key) for key in monthly(kind).get_partition_keys()]
        newest, older = months[-NEWEST:], months[:-NEWEST]
        turn = rotate(older, cursor.after, WINDOW)
        answers = ask(publisher.open(), kind, [*reversed(newest), *turn])
        assert context.repository_def is not None
        records = MonthRecords(context.instance, context.repository_def.asset_graph, kind, settings.new_columns)
        known = records.read(list(answers.published))
        judged = [
            judge(month, published, known[month], records.graph, records.code)
            for month, published in answers.published.items()
        ]
        _remember(cursor, turn, newest, judged)
        context.update_cursor(cursor.write())
        wanted = [j for j in judged if j.state is State.CHANGED or (j.state is State.MISSING and j.month in newest)]
        keys = {j.month: f"{kind.name}-{j.month}-{known[j.month].version}->{answers.version(j.month)}" for j in wanted}
        before = run_keys(context.instance, name, keys.values())
        due = [j for j in wanted if keys[j.month] not in before]
        told = summary(kind, answers, judged, cursor, [j.month for j in wanted if keys[j.month] in before])
        if not due:
            return dg.SkipReason(told)
        context.log.info(told)
        part = records.part(ingest_names(records)) if settings.automation == "declarative" else {}
        return [
            dg.RunRequest(
                run_key=keys[j.month],
                partition_key=j.month.key,
                tags=tags_of_run(f"sensor {name}", answers.version(j.month)),
                **part,
            )
            for j in due
        ]

    return new_months


def _remember(cursor: Cursor, turn: list[Month], newest: list[Month], judged: list[Judgement]) -> None:
    """Move on past the older months that were answered, and note which of them are published and not loaded."""
    for judgement in judged:
        month = str(judgement.month)
        offered = judgement.state is State.MISSING and judgement.month not in newest
        if offered and month not in cursor.offered:
            cursor.offered = sorted([*cursor.offered, month])
        elif not offered and month in cursor.offered:
            cursor.offered.remove(month)
    answered = {judgement.month for judgement in judged}
    for month in turn:
        if month not in answered:
            break
        cursor.after = str(month)


def run_keys(instance: dg.DagsterInstance, sensor: str, keys: Iterable[str]) -> set[str]:
    """Those of the keys that the sensor has had its run for: Dagster starts no second one, and does not say so."""
    if not (wanted := list(keys)):
        return set()
    runs = instance.get_runs(dg.RunsFilter(tags={RUN_KEY: wanted, "dagster/sensor_name": sensor}))
    return {run.tags[RUN_KEY] for run in runs}


def summary(
    kind: TaxiKind, answers: Answers, judged: list[Judgement], cursor: Cursor, before: Sequence[Month] = ()
) -> str:
    """The tick in sentences: what was asked, what stands in the way, what an operator may want to do.

    `before`: months whose one run was had and that are not loaded all the same.
    """
    lines = [answers.trouble] if answers.trouble else []
    if judged:
        lines.append(f"Asked for {len(judged)} months: {ranges(j.month for j in judged)}.")
        lines += [
            f"{ranges(before)}: had its run and is not loaded (the run failed or was ended); reconciliation tries again, "
            "up to three times."
        ] * bool(before)
        lines += [f"{j.month} is {j.state.value}." for j in judged if j.state in TOLD]
        lines += [f"{j}; load it by hand if TAXI_SOURCE is right." for j in judged if j.state is State.OTHER_SOURCE]
    if cursor.offered:
        offered = [Month.parse(month) for month in cursor.offered]
        which = "" if kind.name == "yellow" else f" KIND={kind.name}"
        lines.append(
            f"{len(offered)} older months are published and not loaded ({ranges(offered)}); to load them: "
            f"make backfill FROM={offered[0]} TO={offered[-1]}{which}"
        )
    return " ".join(lines)


def tags_of_run(starter: str, source_version: str | None) -> dict[str, str]:
    """The tags of a run that automation starts."""
    tags = {run_tags.STARTED_BY: starter, run_tags.CODE_VERSION: CODE_VERSION}
    return {**tags, run_tags.SOURCE_VERSION: source_version} if source_version else tags


def ingest_names(records: MonthRecords) -> list[str]:
    """The assets before the sinks, which follow by conditions: raw_trips and what is made from it."""
    return [name for name, parents in records.graph.items() if all(not records.graph[parent] for parent in parents)]


def sinks_follow(kind: TaxiKind, settings: Settings) -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates the sinks' conditions (TAXI_AUTOMATION=declarative)."""
    return dg.AutomationConditionSensorDefinition(
        f"{kind.name}_sinks_follow_clean_trips",
        target=dg.AssetSelection.groups(group(kind, SINKS), group(kind, REPORTS)),
        default_status=status(settings),
        run_tags={
            run_tags.STARTED_BY: "declarative automation",
            run_tags.CODE_VERSION: CODE_VERSION,
            "taxi": kind.name,
        },
        description="Materializes a sink's month when clean_trips has a newer one whose blocking checks passed.",
    )


def follow_upstream() -> dg.AutomationCondition:
    """The condition of a sink: its upstream's month is newer, whole, and passed its blocking checks.

    `eager()` looks at the latest time window alone, a month that is not even published, and ignores checks.
    """
    window = dg.AutomationCondition.in_latest_time_window
    return (
        dg.AutomationCondition.eager().replace(window(), window(DECLARATIVE_LOOKBACK))
        & dg.AutomationCondition.all_deps_blocking_checks_passed()
    ).with_label("follow clean_trips")


def with_conditions(kinds: Iterable[TaxiKind], assets: list[dg.AssetsDefinition]) -> list[dg.AssetsDefinition]:
    """The assets; sinks and reports among them with their condition."""
    groups = {group(kind, name) for kind in kinds for name in (SINKS, REPORTS)}

    def conditioned(spec: dg.AssetSpec) -> dg.AssetSpec:
        if spec.group_name not in groups:
            return spec
        return spec.replace_attributes(automation_condition=follow_upstream())

    return list(dg.map_asset_specs(conditioned, assets))
