"""`publisher`: the months as they are published. It is observed, not loaded: each published month has a data version.

The sensor of new months and every load of a month record what they saw. So the UI shows which months changed at the publisher
since they were loaded ("upstream data changed"), and which are published and not loaded. What is loaded is decided without it,
by what the sinks record.
"""

from collections.abc import Mapping
from pathlib import Path

import dagster as dg
from pydantic import Field

from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import TaxiKind
from taxi_assets.keys import PUBLISHER_POOL, group, key, monthly, months
from taxi_assets.publisher.published import Published
from taxi_assets.publisher.source import TripSource, trip_source
from taxi_assets.settings import Settings
from taxi_assets.status.probing import probe_months

PUBLISHER = "publisher"
DATA_VERSION = "dagster/data_version"
_INPUT_VERSION = "dagster/input_data_version/{}"
OBSERVE_SECONDS = 600.0
"""How long observing every month may take."""


class Publisher(dg.ConfigurableResource):
    """Where months come from: a source of `taxi_assets.publisher.source`."""

    source: str = Field(repr=False, description="TAXI_SOURCE; an address may contain a password or a token.")
    sample_rows: int = Field(description="Rows of a generated month.")
    folder: str = Field(description="What relative paths count from.")

    def open(self) -> TripSource:
        """The source, ready to probe and fetch."""
        return trip_source(self.source, self.sample_rows, Path(self.folder))


def publisher_asset(kind: TaxiKind, settings: Settings) -> dg.SourceAsset:
    """Return the observable source of a kind of taxi."""

    @dg.observable_source_asset(
        key=key(kind, PUBLISHER),
        partitions_def=monthly(kind),
        group_name=group(kind, PUBLISHER),
        op_tags={"dagster/concurrency_key": PUBLISHER_POOL},  # the decorator takes no pool
        tags={"taxi": kind.name, "layer": "source", "dagster/kind/http": ""},
        metadata={
            "dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[_code_reference(settings)])
        },
        description=f"The {kind.name} months as they are published, one data version each: the file's ETag, else its size and "
        "date. Observing it asks for every month, without a download; the sensor of new months records what it sees.",
    )
    def observe(
        context: dg.AssetExecutionContext, publisher: dg.ResourceParam[Publisher]
    ) -> dg.DataVersionsByPartition:
        results = probe_months(publisher.open(), kind, months(kind), OBSERVE_SECONDS, max_errors=3)
        if results.error:
            context.log.warning(results.error)
        versions = data_versions(results.published)
        return dg.DataVersionsByPartition({month.key: version for month, version in versions.items()})

    return observe


def _code_reference(settings: Settings) -> dg.LocalFileCodeReference | dg.UrlCodeReference:
    """Return where `publisher_asset` is, as `definitions` does for other assets: Dagster's functions leave sources out."""
    line = publisher_asset.__code__.co_firstlineno
    if not settings.git_url:
        return dg.LocalFileCodeReference(file_path=__file__, line_number=line)
    tree = f"{settings.git_url}{'/-' if 'gitlab.com' in settings.git_url else ''}/tree/{settings.git_ref}"
    return dg.UrlCodeReference(url=f"{tree}/taxi_assets/assets/publisher.py#L{line}")


def data_versions(published: Mapping[Month, Published | None]) -> dict[Month, str]:
    """Return the data versions of the months that are published and have one."""
    return {month: each.data_version for month, each in published.items() if each and each.data_version}


def new_observations(
    instance: dg.DagsterInstance, kind: TaxiKind, published: Mapping[Month, Published | None]
) -> list[dg.AssetObservation]:
    """Return the observations of the months whose version is not the one that was observed last."""
    return [
        _observation(kind, month, version)
        for month, version in data_versions(published).items()
        if version != _last_observed(instance, kind, month)[0]
    ]


def pinned(instance: dg.DagsterInstance, kind: TaxiKind, month: Month, version: str) -> dict[str, str]:
    """Observe the version that was loaded, unless it was observed last, and return the tags of a materialization made of it.

    Without them Dagster would take for the input what had been observed when the step began.
    """
    asset = _publisher(kind)
    last, storage_id = _last_observed(instance, kind, month)
    if last != version:
        instance.report_runless_asset_event(_observation(kind, month, version))
        _, storage_id = _last_observed(instance, kind, month)
    return {_INPUT_VERSION.format(asset): version, f"dagster/input_event_pointer/{asset}": str(storage_id)}


def repinned(
    instance: dg.DagsterInstance, kind: TaxiKind, month: Month, version: str | None
) -> dg.AssetMaterialization | None:
    """Return the last materialization of raw_trips in the month, pinned to this version; None if it is already.

    A run over several months has one output, whose tags are those of all its months: Dagster would not show which of them was
    republished since. The latest materialization of a month counts.
    """
    raw = dg.AssetRecordsFilter(key(kind, "raw_trips"), asset_partitions=[month.key])
    for record in instance.fetch_materializations(raw, limit=1).records:
        last = record.asset_materialization
        if version and last and (last.tags or {}).get(_INPUT_VERSION.format(_publisher(kind))) != version:
            tags = {**(last.tags or {}), **pinned(instance, kind, month, version)}
            return dg.AssetMaterialization(last.asset_key, metadata=last.metadata, partition=month.key, tags=tags)
    return None


def _observation(kind: TaxiKind, month: Month, version: str) -> dg.AssetObservation:
    return dg.AssetObservation(key(kind, PUBLISHER), partition=month.key, tags={DATA_VERSION: version})


def _publisher(kind: TaxiKind) -> str:
    return key(kind, PUBLISHER).to_user_string()


def _last_observed(instance: dg.DagsterInstance, kind: TaxiKind, month: Month) -> tuple[str | None, int | None]:
    """Return the version that was observed last, and the id of the event."""
    of_month = dg.AssetRecordsFilter(key(kind, PUBLISHER), asset_partitions=[month.key])
    for record in instance.fetch_observations(of_month, limit=1).records:
        observation = record.event_log_entry.asset_observation
        return (observation.tags.get(DATA_VERSION) if observation else None), record.storage_id
    return None, None
