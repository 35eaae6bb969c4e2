"""The two users that terraform/sql.tf creates, on a server with the roles and owners that Cloud SQL's API is known to create.

Every user is a member of `cloudsqlsuperuser`, which is no superuser and owns the databases (Google's documentation of roles).
The names here have a suffix, as roles belong to a server that tests share.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.sinks.postgres.io_manager import PostgresIOManager
from taxi_assets_tests.postgres_fixtures import as_user, rows_of, run_sql
from taxi_assets_tests.sink_fixtures import holds, log, made, writing  # noqa: F401 - fixtures

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "docs/deploy.md"
GROUP, FIRST, TRIPS = "cloudsqlsuperuser_test", "taxi_test", "trips_test"


@pytest.fixture
def users(postgres_url: str) -> Iterator[dict[str, str]]:
    """Addresses of the database, by user."""
    database = postgres_url.rpartition("/")[2]
    run_sql(
        postgres_url,
        f"CREATE ROLE {GROUP} NOLOGIN CREATEROLE CREATEDB",
        *(f"CREATE ROLE {user} LOGIN CREATEROLE CREATEDB PASSWORD 'x' IN ROLE {GROUP}" for user in (FIRST, TRIPS)),
        f"ALTER DATABASE {database} OWNER TO {GROUP}",
    )
    yield {user: as_user(postgres_url, user, "x") for user in (FIRST, TRIPS)}
    run_sql(
        postgres_url,
        f"ALTER DATABASE {database} OWNER TO CURRENT_USER",
        *(f"DROP OWNED BY {role} CASCADE" for role in (FIRST, TRIPS, GROUP)),
        *(f"DROP ROLE {role}" for role in (FIRST, TRIPS, GROUP)),
    )


def test_a_user_cannot_read_the_tables_of_the_other_or_become_it(users, writing, tmp_path) -> None:  # noqa: F811
    PostgresIOManager(url=users[TRIPS]).replace(YELLOW.table, made(tmp_path), writing)
    for statement in (
        "SELECT count(*) FROM ny_taxi.yellow_cab_data",
        f"SET ROLE {TRIPS}",
        f"GRANT {TRIPS} TO {FIRST}",
        f"ALTER ROLE {TRIPS} PASSWORD 'y'",
        "DROP TABLE ny_taxi.yellow_cab_data",
        "DROP SCHEMA ny_taxi CASCADE",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run_sql(users[FIRST], statement)


def test_the_user_of_the_trips_cannot_drop_what_dagster_stores(users) -> None:
    """Dagster's tables are in `public`, which is the database owner's, and so that of every member of `cloudsqlsuperuser`."""
    database = users[TRIPS].rpartition("/")[2]
    elsewhere = users[TRIPS].removesuffix(database) + "postgres"
    run_sql(users[FIRST], "CREATE TABLE public.runs (id int)")
    for _ in range(2):  # every release does it
        assert own_storage(users[FIRST]) == ""
    for url, statement in (
        (users[TRIPS], "SELECT * FROM public.runs"),
        (users[TRIPS], "DROP TABLE public.runs"),
        (users[TRIPS], f"ALTER DATABASE {database} OWNER TO {TRIPS}"),
        (elsewhere, f"DROP DATABASE {database}"),
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run_sql(url, statement)
    run_sql(users[FIRST], "CREATE TABLE public.event_logs (id int)", "DROP TABLE public.runs")


def test_a_database_that_may_not_be_owned_is_reported_and_stops_no_release(users, postgres_url) -> None:
    database = postgres_url.rpartition("/")[2]
    run_sql(postgres_url, f"ALTER DATABASE {database} OWNER TO CURRENT_USER")
    reported = own_storage(users[FIRST])
    assert f"must be owner of database {database}" in reported
    assert reported.count("\n") == 1


def own_storage(url: str) -> str:
    """What the release's script reports to the log of its job."""
    environment = {**os.environ, "DAGSTER_POSTGRES_URL": url.replace("postgresql:", "postgresql+psycopg2:", 1)}
    command = [sys.executable, str(REPOSITORY / "deploy/gcp/own-storage")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_tables_of_the_only_user_are_handed_over_as_documented(users, writing, tmp_path) -> None:  # noqa: F811
    """The old user goes on until a rotation puts the new one into the URL."""
    before, after = (PostgresIOManager(url=users[user]) for user in (FIRST, TRIPS))
    before.replace(YELLOW.table, made(tmp_path), writing)
    with pytest.raises(PermanentError, match="permission denied for schema ny_taxi"):
        after.replace(YELLOW.table, made(tmp_path, seed=1), writing)
    (statement,) = re.findall(r"REASSIGN OWNED BY taxi TO cloudsqlsuperuser", DEPLOY.read_text())
    run_sql(users[FIRST], statement.replace("cloudsqlsuperuser", GROUP).replace("taxi", FIRST))
    for sink, seed in ((before, 2), (after, 3), (after, 4)):
        trips = made(tmp_path, seed=seed)
        sink.replace(YELLOW.table, trips, writing)
        assert holds(sink, trips)
    after.replace(YELLOW.table, made(tmp_path, month="2021-02"), writing)
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
    assert rows_of(users[TRIPS], owner) == [(GROUP,)], "only what is in the database changes hands"
