# ruff: noqa: F401, F811 - pytest finds fixtures by their imported names
"""Which server the Postgres sink talks to and as whom: addresses, roles without privileges, and no password in any sentence."""

from __future__ import annotations

import pytest

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.resources import resources
from taxi_assets.settings import Settings
from taxi_assets.sinks.contract import table_metadata
from taxi_assets.sinks.postgres.embedded import EmbeddedPostgres
from taxi_assets.sinks.postgres.io_manager import PostgresIOManager
from taxi_assets_tests.certificates import own_certificate
from taxi_assets_tests.months import same_trips
from taxi_assets_tests.postgres_fixtures import as_user, encrypting, rows_of, run_sql
from taxi_assets_tests.postgres_sink_fixtures import JANUARY, TABLE
from taxi_assets_tests.processes import free_port
from taxi_assets_tests.sink_fixtures import holds, log, made, writing


def test_a_role_without_privileges_loads_into_a_schema_that_it_may_create_in(
    every_postgres_url, every_postgres_server, writing, tmp_path
):
    database = every_postgres_url.rpartition("/")[2]
    role = f"loader_{database}"
    run_sql(every_postgres_server.url, f"CREATE ROLE {role} LOGIN PASSWORD 'sesame' NOSUPERUSER")
    try:
        sink = PostgresIOManager(url=as_user(every_postgres_url, role, "sesame"))
        with pytest.raises(PermanentError, match=r"2021-01: .*permission denied for database .*TAXI_POSTGRES_SCHEMA"):
            sink.replace(YELLOW.table, made(tmp_path), writing)
        run_sql(every_postgres_url, f"CREATE SCHEMA ny_taxi AUTHORIZATION {role}")
        for seed in range(2):
            trips = made(tmp_path, seed=seed)
            sink.replace(YELLOW.table, trips, writing)
            assert same_trips(sink.read(YELLOW.table, JANUARY), trips)
        with pytest.raises(PermanentError, match="permission denied for database"):
            PostgresIOManager(url=as_user(every_postgres_url, role, "sesame"), schema_name="other").replace(
                YELLOW.table, trips, writing
            )
    finally:
        run_sql(every_postgres_url, f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


def test_a_table_of_another_owner_is_refused_in_a_sentence(postgres_url, postgres_server, writing, tmp_path):
    PostgresIOManager(url=postgres_url).replace(YELLOW.table, made(tmp_path), writing)
    role = f"guest_{postgres_url.rpartition('/')[2]}"
    run_sql(postgres_url, f"CREATE ROLE {role} LOGIN PASSWORD 'sesame'", f"GRANT ALL ON SCHEMA ny_taxi TO {role}",
            f"GRANT ALL ON ALL TABLES IN SCHEMA ny_taxi TO {role}")  # fmt: skip
    try:
        with pytest.raises(PermanentError, match=r"2021-01: .*must be owner of table yellow_cab_data.*owns the tables"):
            PostgresIOManager(url=as_user(postgres_url, role, "sesame")).replace(
                YELLOW.table, made(tmp_path, seed=1), writing
            )
    finally:
        run_sql(postgres_url, f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_of_another_encoding_is_loaded(postgres_server, writing, tmp_path, encoding):
    """`initdb` without a locale makes SQL_ASCII, in which psycopg reads text as bytes unless the client has an encoding."""
    name = f"encoded_{encoding}".lower()
    run_sql(postgres_server.url, f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    try:
        sink = PostgresIOManager(url=postgres_server.url.rpartition("/")[0] + f"/{name}")
        for seed in range(2):
            trips = made(tmp_path, seed=seed)
            sink.replace(YELLOW.table, trips, writing)
            assert same_trips(sink.read(YELLOW.table, JANUARY), trips)
            assert holds(sink, trips)
    finally:
        run_sql(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)")


SECRET = "s3cr3t%2Fword"


@pytest.mark.parametrize(
    ("address", "error", "sentence"),
    [
        ("postgresql://taxi:{word}@127.0.0.1:{closed}/trips", TransientError,
         r"2021-01: Postgres on 127.0.0.1:\d+, database trips cannot be reached \(.*refused.*\); start it or correct"),
        ("postgresql://taxi:{word}@no-such-host.invalid/trips", TransientError,
         r"2021-01: Postgres on no-such-host.invalid:5432, database trips cannot be reached"),
        ("postgresql://taxi:{word}@127.0.0.1:{open}/postgres", PermanentError,
         r"2021-01: Postgres on .* refuses the connection \(.*authentication failed.*check the user and password"),
        ("postgresql://taxi@127.0.0.1:{open}/postgres", PermanentError, r"no password supplied.*add the password"),
        ("{good}_not_there", PermanentError, r'database ".*not_there" does not exist.*create it, or correct'),
        ("{good}?sslmode=require", PermanentError, r"does not support SSL.*enable TLS"),
        ("mysql://taxi:{word}@127.0.0.1/trips", PermanentError, r"^TAXI_POSTGRES_URL is not an address of Postgres"),
        ("postgresql://taxi:{word}@127.0.0.1:port/trips", PermanentError,
         r"invalid integer value .*: correct TAXI_POSTGRES_URL"),
    ],
)  # fmt: skip
def test_a_server_that_cannot_be_used_is_told_in_one_sentence_without_the_password(
    postgres_server, writing, tmp_path, address, error, sentence, capsys
):
    port = postgres_server.url.rpartition(":")[2].partition("/")[0]
    url = address.format(word=SECRET, closed=free_port(), open=port, good=postgres_server.url)
    sink = PostgresIOManager(url=url)
    with pytest.raises(error, match=sentence) as raised:
        sink.replace(YELLOW.table, made(tmp_path), writing)
    told = f"{raised.value!r} {raised.value.__cause__!r} {sink!r} {sink} {capsys.readouterr()}"
    for word in (SECRET, "s3cr3t/word", postgres_server.url.split(":")[2].partition("@")[0]):
        assert word not in told
    assert "\n" not in str(raised.value)


def test_tls_is_asked_for_by_the_address_and_the_certificate_is_checked(
    every_postgres_server, every_postgres_url, writing, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))  # libpq looks for a certificate authority there
    certificate, key = own_certificate(tmp_path)
    with encrypting(every_postgres_server, certificate, key):
        trips, encrypted = made(tmp_path), f"{every_postgres_url}?sslmode=verify-full"
        for address in (encrypted, f"{encrypted}&sslrootcert={own_certificate(tmp_path / 'other')[0]}"):
            with pytest.raises(PermanentError, match="name the server's certificate authority: &sslrootcert=FILE"):
                PostgresIOManager(url=address).replace(YELLOW.table, trips, writing)
        sink = PostgresIOManager(url=f"{encrypted}&sslrootcert={certificate}")
        sink.replace(YELLOW.table, trips, writing)
        assert holds(sink, trips)
        with sink._server().transaction("is it so") as cursor:
            assert cursor.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (True,)


def test_the_address_is_nowhere_in_what_dagster_shows_and_is_still_used_in_its_runs(postgres_url, tmp_path):
    import dagster as dg

    sink = PostgresIOManager(url=postgres_url)
    assert postgres_url not in repr(sink) + str(sink)
    trips = made(tmp_path)

    @dg.asset(
        partitions_def=dg.MonthlyPartitionsDefinition("2021-01-01"),
        io_manager_key="postgres",
        metadata=table_metadata(YELLOW.table),
    )
    def postgres_table() -> object:
        return trips

    result = dg.materialize([postgres_table], partition_key="2021-01-01", resources={"postgres": sink})
    assert result.success
    assert holds(sink, trips)


def test_without_an_address_it_is_the_settings_one_and_else_the_embedded_server(
    postgres_url, writing, tmp_path, monkeypatch
):
    trips = made(tmp_path)
    own = Settings(postgres_url=postgres_url, postgres_schema="by_setting", home=tmp_path)
    resources(own)["postgres"].replace(YELLOW.table, trips, writing)
    assert rows_of(postgres_url, "SELECT count(*) FROM by_setting.yellow_cab_data") == [(2_000,)]
    embedded = EmbeddedPostgres(tmp_path / "postgres")
    try:
        resources(Settings(home=tmp_path))["postgres"].replace(YELLOW.table, trips, writing)
        assert rows_of(embedded.url(), f"SELECT count(*) FROM {TABLE}") == [(2_000,)]
    finally:
        embedded.remove()
