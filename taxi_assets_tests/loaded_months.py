"""Two months loaded from a fake publisher, for tests of sensors, schedules and checks: built once per module."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from taxi_assets.assets.month_status import resource_keys
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.definitions import build_defs
from taxi_assets.keys import POOLS, monthly
from taxi_assets.settings import Settings, load_settings
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.fake_publisher import FakePublisher, fake_publisher

NEWEST, BEFORE, OLDER = (monthly(YELLOW).get_partition_keys()[i][:7] for i in (-1, -2, -20))
"""The newest complete month, the one before it, and one older than those checked at every tick."""


@dataclass
class Loaded:
    """A TAXI_HOME in which `BEFORE` and `OLDER` are loaded; no other month is published."""

    publisher: FakePublisher
    instance: dg.DagsterInstance
    defs: dg.Definitions
    settings: Settings

    @property
    def repository(self):
        return self.defs.get_repository_def()

    def tick(self, make: Callable[..., dg.ScheduleDefinition], **settings) -> tuple[list[dg.RunRequest], str]:
        """Evaluate a schedule of yellow once: its requests and its skip message."""
        schedule = make(YELLOW, self.settings.model_copy(update=settings))
        with dg.build_schedule_context(
            instance=self.instance,
            scheduled_execution_time=dt.datetime(2026, 11, 20, 6, tzinfo=dt.UTC),
            repository_def=self.repository,
            resources={name: self.defs.resources[name] for name in resource_keys(self.settings)},
        ) as context:
            data = schedule.evaluate_tick(context)
        return data.run_requests or [], data.skip_message or ""

    @contextlib.contextmanager
    def published(self, month: str, **how) -> Generator[None, None, None]:
        """A month is published or republished for a while."""
        kept = dict(self.publisher._files)
        self.publisher.publish(month, **how)
        try:
            yield
        finally:
            self.publisher._files = kept


@contextlib.contextmanager
def loaded_months(home: Path) -> Generator[Loaded, None, None]:
    """Load them."""
    with fake_publisher(home / "published") as publisher, pytest.MonkeyPatch.context() as environment:
        environment.setenv("DAGSTER_HOME", str(home))
        environment.setenv("TAXI_SOURCE", publisher.source)
        settings = load_settings()
        defs = build_defs(settings)
        try:
            (home / "dagster").mkdir()
            with dg.instance_for_test(temp_dir=str(home / "dagster"), set_dagster_home=False) as instance:
                for pool in POOLS:  # a run must not wait for a slot that it has itself
                    instance.event_log_storage.set_concurrency_slots(pool, 1)
                for month in (BEFORE, OLDER):
                    publisher.publish(month)
                    job = defs.resolve_job_def("load_month")
                    assert job.execute_in_process(partition_key=f"{month}-01", instance=instance).success
                yield Loaded(publisher, instance, defs, settings)
        finally:
            EmbeddedPostgres(home / ".taxi" / "postgres").remove()


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Generator[Loaded]:
    with loaded_months(tmp_path_factory.mktemp("loaded")) as made:
        yield made
