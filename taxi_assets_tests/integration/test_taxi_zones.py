"""The zones in the complete graph: in the lake, Postgres and the warehouse, and never generated names for real trips."""

import hashlib
import json
import shutil
from pathlib import Path

import dagster as dg
import duckdb
import psycopg
import pyarrow.parquet as pq
import pytest

from taxi_assets.core.failures import run_failures
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import FHVHV, YELLOW
from taxi_assets.definitions import build_defs
from taxi_assets.publisher.sample import write_sample
from taxi_assets_tests.graph import instance, load, postgres
from taxi_assets_tests.misbehaving_server import Offer, misbehaving_server
from taxi_assets_tests.processes import free_port

__all__ = ["instance", "postgres"]

HEADER = "LocationID,Borough,Zone,service_zone\n"
CHECK = "taxi_zones_is_in_every_sink"


@pytest.fixture
def lookup(tmp_path: Path) -> Path:
    """A lookup as the publisher writes it."""
    path = tmp_path / "my zones.csv"
    path.write_text(HEADER + "".join(f"{id_},Queens,Place {id_},Boro Zone\n" for id_ in range(1, 264)))
    return path


@pytest.fixture
def months(tmp_path: Path) -> str:
    """Local files with real trips, as far as anyone can tell."""
    (tmp_path / "files").mkdir()
    write_sample(tmp_path / "files" / "2021-01.csv.gz", YELLOW, Month(2021, 1), 1_000)
    return "files/{month}.csv.gz"


@pytest.fixture
def materialize(instance, monkeypatch):
    """Materialize the zones alone, with these settings."""

    def run(tags: dict[str, str] | None = None, **settings: object) -> dg.ExecuteInProcessResult:
        for name, value in settings.items():
            monkeypatch.setenv(f"TAXI_{name.upper()}", str(value))
        job = dg.define_asset_job("zones", selection="taxi_zones")
        defs = dg.Definitions.merge(build_defs(), dg.Definitions(jobs=[job]))
        return defs.resolve_job_def("zones").execute_in_process(instance=instance, raise_on_error=False, tags=tags)

    return run


def zones(tmp_path: Path, postgres) -> dict[str, tuple[str | None, dict]]:
    """Everywhere, by an ordinary client: the name of zone 74, and what is recorded of all of them."""
    query = "SELECT zone FROM ny_taxi.taxi_zones WHERE locationid = 74"
    recorded = "SELECT manifest FROM ny_taxi.dimension_manifests WHERE table_name = 'taxi_zones'"
    found = {}
    lake = tmp_path / ".taxi/lake/taxi_zones.parquet"
    if lake.exists():
        (row,) = pq.read_table(lake, filters=[("locationid", "=", 74)]).to_pylist()
        footer = (pq.read_metadata(lake).metadata or {}).get(b"taxi_assets", b"{}")
        found["lake"] = row["zone"], json.loads(footer).get("extra", {})
    with psycopg.connect(postgres.url()) as connection:
        if connection.execute("SELECT to_regclass('ny_taxi.taxi_zones') IS NOT NULL").fetchone()[0]:
            (name,), (manifest,) = (connection.execute(each).fetchone() for each in (query, recorded))
            found["postgres"] = name, manifest["extra"]
    warehouse = tmp_path / ".taxi/warehouse.duckdb"
    if warehouse.exists():
        with duckdb.connect(str(warehouse), read_only=True) as connection:
            (name,), (manifest,) = (connection.execute(each).fetchone() for each in (query, recorded))
            found["warehouse"] = name, json.loads(manifest)["extra"]
    return found


def names(tmp_path: Path, postgres) -> dict[str, str | None]:
    return {place: name for place, (name, _) in zones(tmp_path, postgres).items()}


def everywhere(name: str) -> dict[str, str]:
    return dict.fromkeys(("lake", "postgres", "warehouse"), name)


def page(tmp_path: Path) -> str:
    return (tmp_path / ".taxi/bucket/reports/yellow/2021-01.html").read_text()


def test_generated_zones_are_replaced_by_real_ones_and_never_the_other_way_round(
    materialize, lookup, tmp_path, postgres
):
    assert materialize(source="sample").success
    generated = zones(tmp_path, postgres)
    assert {place: name for place, (name, _) in generated.items()} == everywhere("Zone 74 (sample)")
    assert {extra["generated"] for _, extra in generated.values()} == {True}

    assert materialize(zones=lookup.name).success
    real = zones(tmp_path, postgres)
    assert {place: name for place, (name, _) in real.items()} == everywhere("Place 74")
    sha256 = hashlib.sha256(lookup.read_bytes()).hexdigest()
    origin = {"source": "TAXI_ZONES", "location": str(lookup), "sha256": sha256, "generated": False}
    for _, extra in real.values():
        assert extra == {**extra, **origin}

    for settings in ({"source": "sample"}, {"source": "files/{month}.csv"}, {"zones": lookup}):
        assert materialize(**{"zones": "", **settings}).success
        assert zones(tmp_path, postgres) == real  # not written again: the time of the load is recorded


def test_real_zones_of_the_lake_reach_a_new_database_though_the_source_makes_some_up(
    materialize, lookup, tmp_path, postgres
):
    assert materialize(zones=lookup, source="sample").success
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("DROP SCHEMA ny_taxi CASCADE")
    (tmp_path / ".taxi/warehouse.duckdb").unlink()
    assert materialize(zones="").success
    assert names(tmp_path, postgres) == everywhere("Place 74")


def test_a_publishers_lookup_is_loaded_and_its_address_is_recorded_without_secrets(
    materialize, lookup, tmp_path, postgres
):
    with misbehaving_server() as server:
        server.offers["/zones.csv"] = Offer(lookup.read_bytes())
        address = server.address.replace("//", "//me:s3cret@") + "/zones.csv?token=s3cret"
        assert materialize(zones=address, source="sample").success
    found = zones(tmp_path, postgres)
    assert {place: name for place, (name, _) in found.items()} == everywhere("Place 74")
    assert "s3cret" not in str(found)
    assert found["lake"][1]["location"].endswith("/zones.csv?***")


def test_a_database_that_is_away_does_not_keep_the_zones_from_the_others(materialize, monkeypatch, lookup, tmp_path):
    monkeypatch.setattr("taxi_assets.assets.dimensions.RETRY", None)
    away = f"postgresql://u:s3cret@127.0.0.1:{free_port()}/trips"
    (failure,) = run_failures(materialize(postgres_url=away, zones=lookup, source="sample"))
    assert failure.startswith("taxi_zones: taxi_zones: Postgres on 127.0.0.1:")
    assert "\n" not in failure
    with duckdb.connect(str(tmp_path / ".taxi/warehouse.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM ny_taxi.taxi_zones").fetchall() == [(263,)]
    assert pq.read_metadata(tmp_path / ".taxi/lake/taxi_zones.parquet").num_rows == 263
    month = materialize(tags={"dagster/partition": "2021-01-01"})
    assert month.success  # there it is a warning, and the check has it
    assert "Postgres on 127.0.0.1:" in month.get_asset_check_evaluations()[0].description


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "/zones.csv cannot be read (No such file or directory); check TAXI_ZONES."),
        ("<html>Forbidden</html>\n", "has the header <html>Forbidden</html> instead of LocationID,Borough"),
    ],
)
def test_a_lookup_that_is_not_there_or_none_is_one_sentence_and_no_month_fails_because_of_it(
    materialize, instance, monkeypatch, months, tmp_path, content, sentence
):
    if content:
        (tmp_path / "zones.csv").write_text(content)
    (failure,) = run_failures(materialize(zones="zones.csv", source=months))
    assert sentence in failure
    assert "\n" not in failure
    assert load(instance, monkeypatch).success
    assert "No zone lookup of the publisher is loaded" in page(tmp_path)


def test_the_report_of_real_trips_shows_real_names_or_numbers(
    materialize, instance, monkeypatch, lookup, months, tmp_path
):
    assert load(instance, monkeypatch, source="sample", sample_rows=1_000).success
    assert "Zone 237 (sample)" in page(tmp_path)

    allowed = {"ops": {"raw_trips": {"config": {"accept_smaller": True}}}}
    assert load(instance, monkeypatch, source=months, run_config=allowed).success
    assert "(sample)" not in page(tmp_path)
    assert "Zone 237" in page(tmp_path)
    assert "name one in TAXI_ZONES" in page(tmp_path)

    assert load(instance, monkeypatch, zones=lookup).success
    assert "Place 237" in page(tmp_path)
    assert "TAXI_ZONES" not in page(tmp_path)


def test_a_lookup_of_an_older_version_is_of_unknown_origin(
    materialize, instance, monkeypatch, lookup, months, tmp_path, postgres
):
    """It is not used for real trips, generated names do not replace it, and it does not replace real ones elsewhere."""
    assert materialize(source="sample").success
    lake = tmp_path / ".taxi/lake/taxi_zones.parquet"
    pq.write_table(pq.read_table(lake).replace_schema_metadata(None), old := tmp_path / "old.parquet")
    shutil.copy(old, lake)
    assert load(instance, monkeypatch, source=months).success
    assert "(sample)" not in page(tmp_path)
    assert materialize(source="sample").success
    assert lake.read_bytes() == old.read_bytes()

    assert materialize(zones=lookup).success
    shutil.copy(old, lake)
    assert materialize(zones="").success
    assert names(tmp_path, postgres) == everywhere("Place 74")


def test_the_check_finds_rows_changed_by_hand_and_materializing_again_repairs_them(
    materialize, lookup, tmp_path, postgres
):
    def check(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
        (evaluation,) = result.get_asset_check_evaluations()
        assert evaluation.check_name == CHECK
        return evaluation

    assert check(materialize(zones=lookup, source="sample")).passed
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("UPDATE ny_taxi.taxi_zones SET zone = 'Mine' WHERE locationid = 74")
    defs = dg.Definitions.merge(
        build_defs(),
        dg.Definitions(jobs=[dg.define_asset_job("check", dg.AssetSelection.checks_for_assets("taxi_zones"))]),
    )
    found = check(defs.resolve_job_def("check").execute_in_process())
    assert not found.passed
    assert found.description == "postgres has other rows of taxi_zones than lake."
    assert check(materialize()).passed
    assert names(tmp_path, postgres) == everywhere("Place 74")


def test_a_notebook_loads_the_zones_as_a_table_or_a_frame(materialize, instance, lookup):
    import pandas as pd

    assert materialize(zones=lookup, source="sample").success
    defs = build_defs()
    assert defs.load_asset_value("taxi_zones", instance=instance).num_rows == 263
    frame = defs.load_asset_value("taxi_zones", instance=instance, python_type=pd.DataFrame)
    assert frame.zone[73] == "Place 74"


def test_bases_are_a_table_of_every_database_if_a_setting_names_them(instance, monkeypatch, tmp_path, postgres):
    (tmp_path / "bases.csv").write_text("base_number,base_name\nB03404,UBER USA\nB03406,LYFT\n")
    result = load(instance, monkeypatch, kind=FHVHV, source="sample", sample_rows=1_000, kinds="fhvhv")
    assert result.success
    assert not {key.to_user_string() for key in result_keys(result)} & {"fhv_bases"}
    settings = {"source": "sample", "sample_rows": 1_000, "kinds": "fhvhv", "fhv_bases": tmp_path / "bases.csv"}
    result = load(instance, monkeypatch, kind=FHVHV, **settings)
    assert result.success
    query = (
        "SELECT base_name, count(*) FROM ny_taxi.fhvhv_trips LEFT JOIN ny_taxi.fhv_bases ON base_number = dispatching_base_num "
        "GROUP BY 1 ORDER BY 1"
    )
    with psycopg.connect(postgres.url()) as connection:
        found = connection.execute(query).fetchall()
    with duckdb.connect(str(tmp_path / ".taxi/warehouse.duckdb"), read_only=True) as connection:
        assert connection.execute(query).fetchall() == found
    assert [name for name, _ in found] == ["LYFT", "UBER USA"]


def result_keys(result):
    return [event.asset_key for event in result.get_asset_materialization_events()]
