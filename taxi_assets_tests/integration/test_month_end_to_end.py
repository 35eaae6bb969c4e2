"""A month through the whole graph, local profile: sample and real files, twice, with every check."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psycopg
import pyarrow.parquet as pq

from taxi_assets.core.failures import run_failures
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import YELLOW
from taxi_assets.definitions import build_defs
from taxi_assets.publisher.sample import write_sample
from taxi_assets.settings import Settings
from taxi_assets_tests.graph import in_every_sink, instance, load, postgres
from taxi_assets_tests.sample_facts import expected

__all__ = ["instance", "postgres"]

SINK_ASSETS = ["postgres_table", "gcs_parquet", "gcs_partitioned", "bq_table"]
ASSETS = ["raw_trips", "clean_trips", "rejected_trips", *SINK_ASSETS]


def outcomes(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {e.check_name: e.passed for e in result.get_asset_check_evaluations()}


def test_a_sample_month_reaches_every_sink_and_a_second_run_changes_nothing(instance, monkeypatch, tmp_path, postgres):
    result = load(instance, monkeypatch, source="sample", sample_rows=20_000)
    assert result.success
    facts = expected(YELLOW, Month(2021, 1), 20_000)
    assert len(outcomes(result)) == 12
    assert all(outcomes(result).values())
    first = in_every_sink(tmp_path, postgres)
    assert {sink: len(rows) for sink, rows in first.items()} == dict.fromkeys(first, 20_000 - facts.expected_rejected)
    assert len({repr(rows) for rows in first.values()}) == 1
    again = load(instance, monkeypatch, source="sample", sample_rows=20_000)
    assert again.success
    assert in_every_sink(tmp_path, postgres) == first


def test_every_materialisation_says_what_it_is(instance, monkeypatch):
    result = load(instance, monkeypatch, source="sample", sample_rows=3_000)
    made = {
        name: result.asset_materializations_for_node(name)[-1].metadata
        for name in ASSETS
        if name not in ("rejected_trips",)
    }
    assert made["raw_trips"]["generated"].value is True
    assert made["clean_trips"]["zero_passenger_rows"].value > 0
    for name, metadata in made.items():
        assert "dagster/partition_row_count" in metadata, name
        assert (metadata["source"].value, metadata["version"].value) == ("sample", "sample-v1-3000"), name
    assert made["postgres_table"]["bytes"].value > 100_000
    assert "preview" in made["clean_trips"]


def test_a_real_csv_with_a_cut_last_line_keeps_the_line_aside(instance, monkeypatch, tlc, tmp_path, postgres):
    tlc("yellow_csv_samples/yellow_tripdata_2021-01_prefix.csv")
    template = tlc("yellow_csv_samples") / "yellow_tripdata_{month}_prefix.csv"
    result = load(instance, monkeypatch, source=template)
    assert result.success
    rejected = pq.read_table(tmp_path / ".taxi/lake/yellow_rejected_trips/2021-01.parquet", partitioning=None)
    cut = [row for row in rejected.to_pylist() if row["source_text"]]
    assert [(row["source_line"], row["source_text"]) for row in cut] == [(22_794, "1,2021-0")]
    raw = result.asset_materializations_for_node("raw_trips")[-1].metadata
    assert (raw["rows"].value, raw["unreadable"].value) == (22_793, 1)
    held = in_every_sink(tmp_path, postgres)
    assert {len(rows) for rows in held.values()} == {22_793 - rejected.num_rows}


def test_a_real_parquet_file_of_2025_reaches_every_sink(instance, monkeypatch, tlc, tmp_path, postgres):
    tlc("yellow_parquet/yellow_tripdata_2025-01_5rows.parquet")
    result = load(
        instance, monkeypatch, "2025-01", source=tlc("yellow_parquet") / "yellow_tripdata_{month}_5rows.parquet"
    )
    assert result.success
    assert {len(rows) for rows in in_every_sink(tmp_path, postgres).values()} == {5}


def test_the_rules_are_settings_and_run_config(instance, monkeypatch):
    config = {"ops": {"clean_trips": {"config": {"reject_zero_passengers": False}}}}
    sample = {"source": "sample", "sample_rows": 2_000}
    result = load(instance, monkeypatch, run_config=config, reject_unknown_passengers=False, **sample)
    assert result.success
    told = result.asset_materializations_for_node("clean_trips")[0].metadata
    assert told["zero_passenger_rows"].value == 0
    assert told["rejected_rows"].value < told["raw_rows"].value / 20


def test_a_sink_that_was_tampered_with_fails_its_check(instance, monkeypatch, postgres):
    assert load(instance, monkeypatch, source="sample", sample_rows=2_000).success
    with psycopg.connect(postgres.url()) as connection:
        connection.execute(
            "delete from ny_taxi.yellow_cab_data where ctid = (select min(ctid) from ny_taxi.yellow_cab_data)"
        )
    checks = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("postgres_table"), "postgres_table_matches_clean"))
    job = dg.define_asset_job("only_the_check", selection=checks)
    defs = dg.Definitions.merge(build_defs(), dg.Definitions(jobs=[job]))
    result = defs.resolve_job_def("only_the_check").execute_in_process(
        tags={"dagster/partition": "2021-01-01"}, instance=instance, raise_on_error=False
    )
    assert not result.success
    assert outcomes(result) == {"postgres_table_matches_clean": False}


def test_two_months_do_not_touch_each_other(instance, monkeypatch, tmp_path, postgres):
    load(instance, monkeypatch, "2021-01", source="sample", sample_rows=1_000)
    before = in_every_sink(tmp_path, postgres)
    assert load(instance, monkeypatch, "2021-02", source="sample", sample_rows=1_000).success
    after = in_every_sink(tmp_path, postgres)
    for sink, rows in before.items():
        assert set(map(repr, rows)) < set(map(repr, after[sink])), sink


QUARTER = ("2021-01", "2021-02", "2021-03")


def load_quarter(instance, monkeypatch, *assets: str, **settings: object) -> dg.ExecuteInProcessResult:
    """Run the three months in one run, of these assets or of all."""
    for name, value in {"months_per_run": "all", **settings}.items():
        monkeypatch.setenv(f"TAXI_{name.upper()}", str(value))
    jobs = [dg.define_asset_job("quarter", selection=[*assets])] if assets else []
    defs = dg.Definitions.merge(build_defs(Settings()), dg.Definitions(jobs=jobs))
    tags = {f"dagster/asset_partition_range_{end}": f"{QUARTER[i]}-01" for end, i in (("start", 0), ("end", -1))}
    job = defs.resolve_job_def("quarter" if assets else "load_month")
    return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def by_month(tmp_path, postgres) -> dict[str, dict[str, list]]:
    """Every month's trips in every sink."""
    pickup = YELLOW.schema.names.index(YELLOW.pickup)
    return {
        sink: {month: [row for row in rows if f"{row[pickup]:%Y-%m}" == month] for month in QUARTER}
        for sink, rows in in_every_sink(tmp_path, postgres).items()
    }


def files_of(tmp_path, asset: str) -> dict[str, bytes]:
    """Every month's file in the lake."""
    return {month: (tmp_path / f".taxi/lake/yellow_{asset}/{month}.parquet").read_bytes() for month in QUARTER}


def clean_rows(month: str, rows: int) -> int:
    """How many trips of a generated month pass the rules."""
    return rows - expected(YELLOW, Month.parse(month), rows).expected_rejected


def publish_quarter(tmp_path, rows: int) -> None:
    """Write the three months' files at the source."""
    for month in QUARTER:
        write_sample(tmp_path / "source" / f"{month}.csv.gz", YELLOW, Month.parse(month), rows)


@contextmanager
def cut_in_half(path: Path) -> Iterator[None]:
    """Damage a file, and restore it."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    try:
        yield
    finally:
        path.write_bytes(whole)


def changed(before: dict, after: dict) -> list[str]:
    """The months that are not as they were."""
    return [month for month in QUARTER if before[month] != after[month]]


def test_a_range_of_months_in_one_run_commits_each(instance, monkeypatch, tmp_path, postgres):
    result = load_quarter(instance, monkeypatch, source="sample", sample_rows=1000)
    assert result.success
    materialized = instance.get_materialized_partitions(dg.AssetKey("postgres_table"))
    assert materialized == {f"{month}-01" for month in QUARTER}
    kept = {month: clean_rows(month, 1000) for month in QUARTER}
    for sink, months in by_month(tmp_path, postgres).items():
        assert {month: len(rows) for month, rows in months.items()} == kept, sink


def test_a_range_whose_second_month_cannot_be_read_commits_the_first_to_the_lake_and_no_month_to_a_sink(
    instance, monkeypatch, tmp_path, postgres
):
    (tmp_path / "source").mkdir()
    publish_quarter(tmp_path, 1000)
    source = tmp_path / "source" / "{month}.csv.gz"
    assert load_quarter(instance, monkeypatch, source=source).success
    raw, clean, trips = (
        files_of(tmp_path, "raw_trips"),
        files_of(tmp_path, "clean_trips"),
        by_month(tmp_path, postgres),
    )
    publish_quarter(tmp_path, 1500)
    with cut_in_half(tmp_path / "source" / "2021-02.csv.gz"):
        result = load_quarter(instance, monkeypatch, source=source)
    assert [event.step_key for event in result.all_events if event.is_step_failure] == ["raw_trips"]
    assert any("2021-02" in failure for failure in run_failures(result))
    assert changed(raw, files_of(tmp_path, "raw_trips")) == ["2021-01"]
    assert pq.read_metadata(tmp_path / ".taxi/lake/yellow_raw_trips/2021-01.parquet").num_rows >= 1500
    assert changed(clean, files_of(tmp_path, "clean_trips")) == []
    assert by_month(tmp_path, postgres) == trips


def test_a_range_whose_second_month_fails_in_the_sinks_commits_the_first_and_keeps_the_others(
    instance, monkeypatch, tmp_path, postgres
):
    assert load_quarter(instance, monkeypatch, source="sample", sample_rows=1000).success
    before = by_month(tmp_path, postgres)
    lake = load_quarter(instance, monkeypatch, "raw_trips", "clean_trips", "rejected_trips", sample_rows=1500)
    assert lake.success
    assert by_month(tmp_path, postgres) == before
    with cut_in_half(tmp_path / ".taxi/lake/yellow_clean_trips/2021-02.parquet"):
        result = load_quarter(instance, monkeypatch, *SINK_ASSETS)
    failed = {"postgres_table", "gcs_parquet", "gcs_partitioned"}  # bq_table, which reads gcs_parquet, is not started
    assert {event.step_key for event in result.all_events if event.is_step_failure} == failed
    assert all("2021-02" in failure for failure in run_failures(result))
    after = by_month(tmp_path, postgres)
    assert {sink: changed(before[sink], after[sink]) for sink in SINK_ASSETS} == {
        **{sink: ["2021-01"] for sink in failed},
        "bq_table": [],
    }
    with cut_in_half(tmp_path / ".taxi/bucket/nyc_taxi_data/yellow_tripdata_2021-02.parquet"):
        result = load_quarter(instance, monkeypatch, "bq_table")
    assert [event.step_key for event in result.all_events if event.is_step_failure] == ["bq_table"]
    assert all("2021-02" in failure for failure in run_failures(result))
    after = by_month(tmp_path, postgres)
    for sink in SINK_ASSETS:
        assert changed(before[sink], after[sink]) == ["2021-01"], sink
        assert len(after[sink]["2021-01"]) == clean_rows("2021-01", 1500), sink
