"""A file of another tool, through the graph into every local sink, with the settings that `inspect` names."""

import datetime as dt
from pathlib import Path

import dagster as dg
import pytest

from taxi_assets.cli.main import main
from taxi_assets.core.failures import run_failures
from taxi_assets.datasets.schema import YELLOW
from taxi_assets_tests.graph import Database, in_every_sink, instance, load, postgres  # noqa: F401
from taxi_assets_tests.published_files import HEADER, line

NEEDED = {"column_aliases": "fahrpreis=fare_amount", "date_order": "dmy", "decimal_comma": "true"}


def spreadsheet(folder: Path) -> None:
    """Write trips as a spreadsheet in Germany would: one of each of the first six days."""
    lines = [HEADER.replace("fare_amount", "Fahrpreis").replace(",", ";")]
    for day in range(1, 7):
        row = line(fare_amount="7.25", tpep_pickup_datetime="PICKUP", tpep_dropoff_datetime="DROPOFF")
        row = row.replace(",", ";").replace(".", ",")
        lines.append(row.replace("PICKUP", f"0{day}.06.2019 13:05").replace("DROPOFF", f"0{day}.06.2019 13:25"))
    folder.mkdir(parents=True)
    (folder / "part-0.csv").write_text("\n".join(lines))


def test_a_folder_of_spreadsheets_is_inspected_and_loaded_with_the_settings_that_it_needs(
    instance: dg.DagsterInstance,  # noqa: F811
    postgres: Database,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, template = tmp_path / "files" / "2019" / "06", f"{tmp_path}/files/{{year}}/{{month_number}}"
    spreadsheet(folder)
    assert main(["inspect", str(folder)]) == 1
    shown = capsys.readouterr().out
    assert all(f"TAXI_{name.upper()}" in shown for name in NEEDED)
    refused = load(instance, monkeypatch, "2019-06", source=template)
    (failure,) = run_failures(refused)
    assert all(f"TAXI_{name.upper()}" in failure for name in NEEDED)
    loaded = load(instance, monkeypatch, "2019-06", source=template, **NEEDED)
    assert loaded.success
    assert main(["inspect", str(folder)]) == 0
    assert f"TAXI_SOURCE='{template}' taxi-assets run 2019-06" in capsys.readouterr().out
    at = [YELLOW.schema.names.index(name) for name in ("tpep_pickup_datetime", "fare_amount", "improvement_surcharge")]
    expected = [(dt.datetime(2019, 6, day, 13, 5), 7.25, 0.3) for day in range(1, 7)]
    for sink, rows in in_every_sink(tmp_path, postgres).items():
        assert [tuple(row[i] for i in at) for row in sorted(rows, key=lambda row: row[at[0]])] == expected, sink
