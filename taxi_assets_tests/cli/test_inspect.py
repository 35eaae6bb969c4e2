"""`taxi-assets inspect`: what a file is, without loading it."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from taxi_assets.cli.main import main
from taxi_assets_tests.published_files import HEADER, ROW, csv_file, line, parquet


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    for name in ("TAXI_SOURCE", "TAXI_KINDS"):
        monkeypatch.delenv(name, raising=False)


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was printed, with single blanks."""
    return re.sub(" +", " ", capsys.readouterr().out)


def test_a_file_is_described_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [ROW, line(passenger_count="0"), line(tpep_pickup_datetime="2019-07-01 00:00:00"), line(fare_amount="x")]
    path = csv_file(tmp_path, *lines, header=HEADER.replace("PULocationID", "pu_location_id"), name="2019-06.csv.gz")
    assert main(["inspect", str(path)]) == 0
    text = shown(capsys)
    for expected in (
        "yellow taxi trips (yellow)",
        "format CSV, compressed with gzip",
        "with a header, separated by comma",
        "layout a Mage pipeline",
        "times YYYY-MM-DD HH:MM:SS",
        "pu_location_id pulocationid",
        "absent airport_fee",
        "rows 4, 1 of them unreadable",
        "pickups 2019-06-01 00:55:13 to 2019-07-01 00:00:00; 66.7 % in 2019-06",
        "rejects 3 of the first 4 rows, as a file of 2019-06",
        "zero_passengers 1",
        "pickup_outside_month 1",
        "unreadable_value 1",
        f"TAXI_SOURCE='{tmp_path}/{{month}}.csv.gz' taxi-assets run 2019-06 --kind yellow",
    ):
        assert expected in text
    assert not list((tmp_path / "home").iterdir())


def test_what_stands_in_the_way_is_named_at_once_with_the_setting_that_helps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = line(tpep_pickup_datetime="2019-06-05T00:55:13Z").replace(",", ";").replace(".", ",")
    path = csv_file(tmp_path, row, header=HEADER.replace("total_amount", "sum_paid").replace(",", ";"))
    assert main(["inspect", str(path)]) == 1
    text = shown(capsys)
    for setting in (
        "TAXI_COLUMN_ALIASES=<that name>=total_amount",
        "TAXI_ZONED_TIMES=wall_clock",
        "TAXI_DECIMAL_COMMA=true",
    ):
        assert setting in text
    assert main(["inspect", str(path), "--kind", "green"]) == 1
    assert "is a yellow taxi file by its columns" in capsys.readouterr().err
    monkeypatch.setenv("TAXI_COLUMN_ALIASES", "Sum paid=total_amount")
    monkeypatch.setenv("TAXI_ZONED_TIMES", "wall_clock")
    monkeypatch.setenv("TAXI_DECIMAL_COMMA", "true")
    main(["inspect", str(path)])
    assert "cannot be loaded" not in shown(capsys)


def test_a_parquet_file_in_a_zip_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "trips_2019_06.zip", "w") as archive:
        archive.writestr("trips.parquet", parquet(tmp_path / "a.parquet"))
    assert main(["inspect", str(tmp_path / "trips_2019_06.zip"), "--month", "2019-06"]) == 0
    text = shown(capsys)
    assert "format Parquet, in a zip archive, by parquet-cpp-arrow" in text
    assert f"TAXI_SOURCE='{tmp_path}/trips_{{year}}_{{month_number}}.zip' taxi-assets run 2019-06" in text


def test_a_file_of_several_months_and_of_a_dataset_that_is_off(
    tlc: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(tlc("exports/2015_Green_Taxi_Trip_Data_1000.csv"))]) == 0
    text = shown(capsys)
    assert "green taxi trips (green)" in text
    assert "times MM/DD/YYYY HH:MM:SS AM" in text
    assert "It has trips of 12 months" in text
    assert main(["inspect", str(tlc("exports/fhvhv_2025_100_bom_no_timestamps.csv"))]) == 1
    assert "high-volume for-hire trips (fhvhv)" in (text := shown(capsys))
    assert "has no column for pickup_datetime" in text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"<html>", "is a web page"),
        (b"Obj\x01" + bytes(50), "is an Avro file"),
        (b"ORC" + bytes(50), "is an ORC file"),
        (b"name,age\nJo,3\n", "has no column for tpep_pickup_datetime"),
    ],
)
def test_what_is_no_file_of_trips_is_said(
    content: bytes, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    assert main(["inspect", str(tmp_path / "a.csv")]) == 1
    captured = capsys.readouterr()
    assert sentence in captured.out + captured.err


def test_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path / "absent.csv")]) == 1
    assert capsys.readouterr().err == f"error: There is no file {tmp_path}/absent.csv; check the path.\n"
