"""The story of `test_daemon` over Google Cloud's protocols: all automation on, Postgres as instance storage, every sink a server.

It takes minutes, so it runs on request: CLOUD_STORY=1.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from taxi_assets.automation.deadlines import DEADLINE
from taxi_assets.core.month import Month
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets_tests.alert_servers import Webhook, webhook
from taxi_assets_tests.emulators import __main__ as emulators
from taxi_assets_tests.emulators.bigquery import Unavailable, prepare
from taxi_assets_tests.fake_publisher import FakePublisher, fake_publisher
from taxi_assets_tests.integration.test_cloud_profile import objects_of
from taxi_assets_tests.integration.test_daemon import BROKEN, MONTHS, NEWEST, OLDER, Machine, client, kept, machine
from taxi_assets_tests.postgres_fixtures import run_sql
from taxi_assets_tests.processes import REPOSITORY, free_port, until

pytestmark = pytest.mark.skipif("CLOUD_STORY" not in os.environ, reason="takes minutes: set CLOUD_STORY=1")
BETWEEN = "tpep_pickup_datetime >= '{0}' AND tpep_pickup_datetime < '{1}'"


class Cloud(Machine):
    """The machine whose sinks are the emulators of `environment`."""

    environment: dict[str, str]

    def rows(self, month: str) -> dict[str, int]:
        """The month's rows in every sink, read with its own client; 0 where there is no table yet."""
        between = BETWEEN.format(Month.parse(month).start, Month.parse(month).end)
        options = {"api_endpoint": self.environment["TAXI_BIGQUERY_ENDPOINT"]}
        held = dict.fromkeys(("postgres_table", "bq_table"), 0)
        with (
            contextlib.suppress(psycopg.errors.UndefinedTable),
            psycopg.connect(self.environment["TAXI_POSTGRES_URL"]) as connection,
        ):
            query = f"SELECT count(*) FROM ny_taxi.yellow_cab_data WHERE {between}"
            (held["postgres_table"],) = connection.execute(query).fetchone()
        with (
            contextlib.suppress(NotFound),
            bigquery.Client(emulators.PROJECT, AnonymousCredentials(), client_options=options) as warehouse,
        ):
            ((held["bq_table"],),) = warehouse.query(
                f"SELECT count(*) FROM `{emulators.PROJECT}.ny_taxi.yellow_cab_data` WHERE {between}"
            ).result()
        objects = objects_of(self.environment)
        return {
            **held,
            "gcs_parquet": objects.get(f"nyc_taxi_data/yellow_tripdata_{month}.parquet", 0),
            "gcs_partitioned": sum(rows for name, rows in objects.items() if f"/tpep_pickup_date={month}-" in name),
        }

    def wait_for_rows(self, month: str, rows: int) -> None:
        """Wait until every sink has the published month."""
        until(lambda: self.rows(month) == kept(month, rows), 300, f"{month} in every sink; {self.log()}")


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The settings that use the emulators."""
    try:
        prepare()
    except Unavailable as reason:
        pytest.skip(str(reason))
    folder, postgres = tmp_path / "emulators", EmbeddedPostgres(tmp_path / "emulators" / "postgres")
    try:
        started = emulators.start(folder, (free_port(), free_port(), free_port()))
        yield {**started, "TAXI_POSTGRES_URL": postgres.url()}
    finally:
        emulators.stop(folder)
        postgres.remove()


@contextlib.contextmanager
def cloud(home: Path, environment: dict[str, str], **settings: object) -> Generator[Cloud]:
    """`dagster dev` whose history is in Postgres."""
    url = environment["TAXI_POSTGRES_URL"]
    run_sql(url, "CREATE DATABASE dagster")
    address = url.rpartition("/")[0].replace("postgresql:", "postgresql+psycopg2:", 1) + "/dagster"
    config = (REPOSITORY / "dagster.yaml").read_text()
    storage = f"storage:\n  postgres:\n    postgres_url: {address}\n"
    config = re.sub(r"^storage:\n(  .*\n)+", storage, config, flags=re.MULTILINE)
    named = {name.removeprefix("TAXI_").lower(): value for name, value in environment.items()}
    with machine(home, config, **{**named, **settings}) as here:
        here.__class__ = Cloud
        here.environment = environment
        yield here


@pytest.mark.parametrize("automation", ["on", "declarative"])
def test_it_runs_itself_in_the_cloud_profile(tmp_path: Path, environment, automation: str, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", environment["STORAGE_EMULATOR_HOST"])
    settings = {
        "automation": automation,
        "sensor_seconds": 5,
        "reconcile_cron": "*/2 * * * *",
        "reconcile_months": 12,
        "alert_webhook": None,
    }
    with fake_publisher(tmp_path / "published") as publisher, webhook() as hook:
        settings |= {"source": publisher.source, "alert_webhook": hook.url}
        with cloud(tmp_path, environment, **settings) as here:
            story(here, publisher, hook)


def story(here: Cloud, publisher: FakePublisher, hook: Webhook) -> None:
    """Publish, republish, an old month, a backfill with trouble, a month that must fail."""
    publisher.publish(NEWEST, 300)
    here.wait_for_rows(NEWEST, 300)
    publisher.publish(NEWEST, 500, variant=1)
    here.wait_for_rows(NEWEST, 500)
    publisher.publish(OLDER, 300)
    here.wait_for_rows(OLDER, 300)

    for month in MONTHS:
        publisher.publish(month, 300)
    publisher.fail(MONTHS[3], 2)
    publisher.publish_page(BROKEN)
    with client(here, MONTHS[0], MONTHS[-1]) as backfill, client(here, BROKEN) as broken:
        printed = backfill.communicate(timeout=900)[0]
        assert backfill.returncode == 0, printed
        printed = broken.communicate(timeout=300)[0]
        assert broken.returncode == 1
        assert "web page" in printed
    for month in MONTHS:
        here.wait_for_rows(month, 300)

    # every month was loaded once, whoever wanted it loaded
    query = "SELECT to_char(month, 'YYYY-MM') FROM ny_taxi.load_history"
    with psycopg.connect(here.environment["TAXI_POSTGRES_URL"]) as connection:
        loads = Counter(month for (month,) in connection.execute(query).fetchall())
    assert loads == {month: 1 + (month == NEWEST) for month in (*MONTHS, OLDER, NEWEST)}
    failed = {run.tags.get("dagster/partition", run.job_name)[:7] for run in here.runs() if run.is_failure}
    assert failed == {BROKEN}

    messages = until(lambda: [each["text"] for each in hook.posted], 120, f"the alert; {here.log()}")
    assert [text for text in messages if BROKEN not in text] == []
    until(lambda: deadlines(here), 180, f"the deadline checks; {here.log()}")
    assert set(deadlines(here)) == {True}


def deadlines(here: Machine) -> list[bool]:
    """The outcomes of the last deadline check of each sink."""
    sinks = ("postgres_table", "gcs_parquet", "gcs_partitioned", "bq_table")
    with dg.DagsterInstance.from_config(str(here.home)) as instance:
        histories = [
            instance.event_log_storage.get_asset_check_execution_history(
                dg.AssetCheckKey(dg.AssetKey(sink), DEADLINE), 1
            )
            for sink in sinks
        ]
    return [
        record.event.dagster_event.asset_check_evaluation_data.passed
        for (*_, record) in filter(None, histories)
        if record.event
    ]
