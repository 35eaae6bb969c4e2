"""Every available published file is compared, column by column and row by row, with an independent reading.

CSV is read again by pandas, Parquet by DuckDB; the meaning of columns and codes is repeated here, not imported
from the package.
"""

import gzip
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import KINDS, TaxiKind
from taxi_assets.publisher import csv_reader
from taxi_assets.publisher.reader import open_trips

ODD_MONTHS = ("01", "03", "05", "07", "09", "11")
HEADS = [f"yellow_csv_heads/yellow_tripdata_{year}-{month}.csv" for year in range(2009, 2018) for month in ODD_MONTHS]
FIRST_KILOBYTES = [
    f"yellow_csv_first1024bytes/yellow_tripdata_{month}.csv"
    for month in (
        *("2009-01", "2014-01", "2015-07", "2016-07", "2017-01"),
        *(f"{year}-{month}" for year in (2018, 2019) for month in ODD_MONTHS),
        *("2020-01", "2020-03", "2020-05"),
    )
]
RENAMED = [
    f"yellow_10k_renamed/yellow_tripdata_sample_{year}-{month}.csv"
    for year in (2018, 2019, 2020)
    for month in ODD_MONTHS
]
SAMPLES = [
    f"yellow_csv_samples/yellow_tripdata_{name}.csv"
    for name in (
        *("2013-01", "2015-01", "2016-01", "2016-03_random_indexed", "2019-01_4000", "2020-01_first1000"),
        *("2021-01_prefix", "2024-01_sample30000"),
    )
]
GREEN_CSV = [
    "green_full_months/green_tripdata_2013-08.csv",
    *(f"green_full_months/green_tripdata_2020-{month}.csv.gz" for month in ODD_MONTHS[1:]),
]
GREEN_HEADS = [
    f"green_csv_heads/green_tripdata_{year}-{month}.csv" for year in range(2014, 2018) for month in ODD_MONTHS
]
FOR_HIRE = [
    *(f"fhv_csv_first100rows/fhv_tripdata_{year}-{month}.csv" for year in range(2015, 2020) for month in ODD_MONTHS),
    *(f"fhv_csv_first100rows/fhv_tripdata_2020-{month}.csv" for month in ODD_MONTHS[:3]),
    *(f"fhvhv_csv_first100rows/fhvhv_tripdata_2019-{month}.csv" for month in ODD_MONTHS[1:]),
    *(f"fhvhv_csv_first100rows/fhvhv_tripdata_2020-{month}.csv" for month in ODD_MONTHS[:3]),
    "fhv_csv_samples/fhv_tripdata_2025-01_first1000.csv",
    "fhvhv_csv_samples/fhvhv_tripdata_2025-01_first1000.csv",
]
CSV = [*HEADS, *FIRST_KILOBYTES, *RENAMED, *SAMPLES, *GREEN_CSV, *GREEN_HEADS, *FOR_HIRE]
PARQUET = [
    "yellow_parquet/yellow_tripdata_2025-01_5rows.parquet",
    *(
        f"green_full_months/green_tripdata_{month}.parquet"
        for month in (
            *("2021-01", "2021-03", "2022-01", "2022-03", "2023-01", "2023-02", "2023-12", "2024-01", "2024-10"),
            "2025-11.pandas-resaved",
        )
    ),
]
REFUSED = {
    "damaged/yellow_tripdata_2021-01.truncated.parquet": "is a truncated Parquet file: the footer at its end is "
    "missing; download the month again.",
    "damaged/yellow_tripdata_2021-01.lfs-pointer.csv": "is a git-LFS pointer instead of the file; run "
    "`git lfs pull` in its repository, or download the month again.",
    "yellow_parquet/yellow_tripdata_2024-04.footer-only.parquet": "is damaged or truncated (Invalid column "
    "metadata (corrupt file?)); download the month again.",
    "yellow_csv_samples/yellow_2017_22699_mixed_dates.csv": "has dates in two formats ('03/25/2017 8:55:43 AM' and "
    "'04/11/2017 14:53' in 'tpep_pickup_datetime'): a spreadsheet read some, and may have exchanged their day and month; use "
    "the file as it was before.",
}

MEANING = {
    "vendor_name": "vendorid",
    "vendor_id": "vendorid",
    "trip_pickup_datetime": "*pickup_datetime",
    "trip_dropoff_datetime": "*dropoff_datetime",
    "pickup_datetime": "*pickup_datetime",
    "dropoff_datetime": "*dropoff_datetime",
    "pickup_date": "pickup_datetime",
    "locationid": "pulocationid",
    "dispatching_base_number": "dispatching_base_num",
    "start_lon": "pickup_longitude",
    "start_lat": "pickup_latitude",
    "end_lon": "dropoff_longitude",
    "end_lat": "dropoff_latitude",
    "rate_code": "ratecodeid",
    "rate_code_id": "ratecodeid",
    "store_and_forward": "store_and_fwd_flag",
    "fare_amt": "fare_amount",
    "tip_amt": "tip_amount",
    "tolls_amt": "tolls_amount",
    "total_amt": "total_amount",
    "surcharge": "extra",
    "pickup_location_id": "pulocationid",
    "dropoff_location_id": "dolocationid",
}
"""Published names in lower case that differ from the canonical ones."""
VENDOR = {"CMT": 1, "VTS": 2, "DDS": 3}
PAYMENT = {
    "CASH": 2,
    "Cash": 2,
    "CAS": 2,
    "Cas": 2,
    "CSH": 2,
    "CREDIT": 1,
    "Credit": 1,
    "CRE": 1,
    "Cre": 1,
    "CRD": 1,
    "No Charge": 3,
    "No ": 3,
    "NOC": 3,
    "Dispute": 4,
    "DIS": 4,
    "UNK": 5,
    "NA ": 5,
}
FLAG = {"N": "N", "Y": "Y", "0": "N", "1": "Y"}
FLAGS = {"store_and_fwd_flag", *(f"{name}_flag" for name in ("shared_request", "shared_match", "access_a_ride"))}
FLAGS |= {"wav_request_flag", "wav_match_flag"}
BASES = {"hvfhs_license_num", "dispatching_base_num", "originating_base_num", "affiliated_base_number"}
TEXT = {"vendorid", "payment_type", *FLAGS, *BASES}


@dataclass
class Tally:
    files: int = 0
    rows: int = 0
    cells: int = 0
    unreadable: int = 0


@pytest.fixture(scope="module")
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Count what was compared, and print it at the end of the run (with one process)."""
    tally = Tally()
    yield tally
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        print(
            f"\nreal files compared: {tally.files} files, {tally.rows:,} rows, {tally.cells:,} cells; "
            f"{tally.unreadable} unreadable lines accounted for"
        )


def kind_and_month(name: str) -> tuple[TaxiKind, Month]:
    month = re.search(r"\d{4}-\d\d", name)
    return KINDS[re.split(r"[/_]", Path(name).name)[0]], Month.parse(month[0]) if month else Month(2017, 1)


def read(path: Path, kind: TaxiKind, month: Month) -> pa.Table:
    opened = open_trips(path, kind, month)
    return pa.Table.from_batches(opened.batches, opened.schema)


def readable_lines(text: str) -> tuple[list[str], list[tuple[int, str]]]:
    """The header and the lines with all its fields, and the others with their numbers."""
    lines = [(number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1)]
    header, *rows = [(number, line) for number, line in lines if line]
    width = header[1].count(",")
    cut = [row for row in rows if row[1].count(",") < width]
    return [header[1], *(line for _, line in rows if line.count(",") >= width)], cut


def pandas_reading(lines: list[str], kind: TaxiKind) -> dict[str, np.ndarray]:
    names = [meaning(name, kind) for name in lines[0].replace('"', "").split(",")]
    if names.count("dispatching_base_num") == 2:  # 2018: the second is empty in every row
        names[-1] = ""
        assert all(line.endswith(',""') for line in lines[1:])
    text = TEXT | {name for name in names if name.endswith("_datetime")}
    frame = pd.read_csv(
        io.StringIO("\n".join(lines)),
        header=0,
        names=names,
        index_col=False,
        usecols=[name for name in names if name],
        dtype={name: str if name in text else np.float64 for name in names},
        keep_default_na=False,
        na_values=[""],
        float_precision="round_trip",
    )
    return {name: frame[name].to_numpy() for name in frame.columns}


def duckdb_reading(path: Path, kind: TaxiKind) -> dict[str, np.ndarray]:
    import duckdb

    with duckdb.connect() as connection:
        frame = connection.execute("SELECT * FROM read_parquet(?)", [str(path)]).df()
    return {meaning(name, kind): frame[name].to_numpy() for name in frame.columns}


def meaning(published: str, kind: TaxiKind) -> str:
    name = published.strip().lower()
    return MEANING.get(name, name).replace("*", kind.meter)


def compare(found: pa.Table, expected: dict[str, np.ndarray], kind: TaxiKind) -> int:
    """Compare every canonical column; returns the number of cells compared."""
    assert not set(expected) - set(kind.schema.names) - {""}
    for name in kind.schema.names:
        column = found[name].combine_chunks()
        if name not in expected:
            assert column.null_count == len(column), name
            continue
        values = expected[name]
        if name.endswith("_datetime"):
            values = pd.to_datetime(values, format="%Y-%m-%d %H:%M:%S").astype("datetime64[us]").astype(np.int64)
            np.testing.assert_array_equal(column.cast(pa.int64()).fill_null(-(2**63)).to_numpy(), values, name)  # NaT
        elif name in FLAGS:
            assert column.to_pylist() == [None if pd.isna(v) or not v.strip() else FLAG[v] for v in values], name
        elif name in BASES:
            assert column.to_pylist() == [None if pd.isna(v) else base(v) for v in values], name
        else:
            words = {"vendorid": VENDOR, "payment_type": PAYMENT}.get(name, {})
            if words and values.dtype == object:
                values = [np.nan if pd.isna(v) else words.get(v, v) for v in values]
            values = np.asarray(values, dtype=np.float64)
            np.testing.assert_array_equal(column.cast(pa.float64()).to_numpy(zero_copy_only=False), values, name)
    return len(kind.schema.names) * found.num_rows


def base(published: str) -> str:
    text = published.strip()
    return text.upper() if re.fullmatch(r"[bB]\d{5}|HV\d{4}", text) else text


@pytest.mark.parametrize("name", CSV)
def test_a_real_csv_reads_as_pandas_reads_it(name: str, tlc: Callable[[str], Path], tally: Tally) -> None:
    kind, month = kind_and_month(name)
    path = tlc(name)
    content = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    lines, cut = readable_lines(content.decode())

    table = read(path, kind, month)

    unreadable = table.filter(table["reject_reason"].is_valid())
    assert list(zip(unreadable["source_line"].to_pylist(), unreadable["source_text"].to_pylist(), strict=True)) == cut
    assert set(unreadable["reject_reason"].to_pylist()) <= {"unreadable_field_count"}
    assert unreadable.select(kind.schema.names).drop_null().num_rows == 0
    assert table.num_rows == len(lines) - 1 + len(cut)
    readable = table.filter(table["reject_reason"].is_null())
    assert readable["source_line"].null_count == readable["source_text"].null_count == readable.num_rows
    tally.cells += compare(readable, pandas_reading(lines, kind), kind)
    tally.files += 1
    tally.rows += table.num_rows
    tally.unreadable += len(cut)


@pytest.mark.parametrize("name", PARQUET)
def test_a_real_parquet_file_reads_as_duckdb_reads_it(name: str, tlc: Callable[[str], Path], tally: Tally) -> None:
    kind, month = kind_and_month(name)

    table = read(tlc(name), kind, month)

    expected = duckdb_reading(tlc(name), kind)
    assert table.num_rows == len(expected["vendorid"])
    assert table["reject_reason"].null_count == table.num_rows
    tally.cells += compare(table, expected, kind)
    tally.files += 1
    tally.rows += table.num_rows


@pytest.mark.parametrize("name", REFUSED)
def test_a_damaged_or_foreign_file_is_refused_in_one_sentence(name: str, tlc: Callable[[str], Path]) -> None:
    kind, month = kind_and_month(name)
    with pytest.raises(PermanentError) as refusal:
        next(open_trips(tlc(name), kind, month).batches)
    assert str(refusal.value) == f"{month}: {tlc(name)} {REFUSED[name]}"


@pytest.mark.parametrize("name", CSV)
def test_splitting_line_by_line_gives_what_splitting_at_once_gives(
    name: str, tlc: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, month = kind_and_month(name)
    at_once = read(tlc(name), kind, month)
    monkeypatch.setattr(csv_reader, "split_at_once", lambda *_: None)
    assert read(tlc(name), kind, month).equals(at_once)


OF_EACH_ERA = {
    "yellow taxi": (HEADS[0], HEADS[7], HEADS[-1], PARQUET[0]),
    "green taxi": (GREEN_CSV[0], GREEN_HEADS[-1], PARQUET[1]),
    "for-hire vehicle": (FOR_HIRE[0], FOR_HIRE[13], FOR_HIRE[16], FOR_HIRE[20], FOR_HIRE[-2]),
    "high-volume for-hire": (FOR_HIRE[-4], FOR_HIRE[-1]),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", [name for names in OF_EACH_ERA.values() for name in names])
def test_a_file_of_another_dataset_is_named_as_such(kind: TaxiKind, name: str, tlc: Callable[[str], Path]) -> None:
    title = next(title for title, names in OF_EACH_ERA.items() if name in names)
    if title == kind.title:
        assert next(open_trips(tlc(name), kind, Month(2020, 3)).batches).num_rows
        return
    with pytest.raises(PermanentError, match=rf"is a {title} file by its columns; load .* to the {kind.name} file"):
        next(open_trips(tlc(name), kind, Month(2020, 3)).batches)
