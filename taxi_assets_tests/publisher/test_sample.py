"""A generated month is reproducible, looks like a published one, and has exactly the defects it declares."""

import csv
import datetime as dt
import gzip
import hashlib
import subprocess
import sys
from collections import Counter
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.core.staging import stage
from taxi_assets.datasets.rules import CleaningRules
from taxi_assets.datasets.schema import FHV, FHVHV, GREEN, KINDS, YELLOW, TaxiKind
from taxi_assets.lake.cleaning import clean_month
from taxi_assets.publisher.reader import open_trips
from taxi_assets.publisher.sample import CHUNK_ROWS, DEFECTS, HEADERS, write_sample
from taxi_assets_tests.sample_facts import expected

REPOSITORY = Path(__file__).resolve().parents[2]
MONTH = Month(2021, 1)
AMOUNTS = (
    "fare_amount", "extra", "mta_tax", "tip_amount", "tolls_amount", "improvement_surcharge", "congestion_surcharge"
)  # fmt: skip


@lru_cache
def lines(kind: TaxiKind, month: Month, rows: int, variant: int = 0) -> list[str]:
    """The text of a generated month, line by line; Python's own gzip reads it."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "month.csv.gz"
        write_sample(path, kind, month, rows, variant=variant)
        text = gzip.decompress(path.read_bytes()).decode("ascii")
    assert text.endswith("\n")
    assert "\r" not in text
    return text[:-1].split("\n")


def trips(kind: TaxiKind, month: Month, rows: int) -> list[dict[str, str] | None]:
    """Each line as a record, or None where it is unreadable, by Python's csv module and types."""
    header, *data = csv.reader(lines(kind, month, rows))
    return [record(kind, dict(zip(header, row, strict=True))) if len(row) == len(header) else None for row in data]


def record(kind: TaxiKind, row: dict[str, str]) -> dict[str, str] | None:
    try:
        for name in (kind.pickup, kind.dropoff):
            dt.datetime.strptime(row[name], "%Y-%m-%d %H:%M:%S")
        for name in ("trip_distance", "total_amount", *AMOUNTS):
            Decimal(row[name] or 0)
    except (ValueError, InvalidOperation):
        return None
    return row


def good(kind: TaxiKind, month: Month, rows: int) -> list[dict[str, str]]:
    """The readable trips of the month with a provider and a positive fare."""
    return [
        trip for trip in trips(kind, month, rows)
        if trip and trip["VendorID"] and trip["fare_amount"][0] != "-" and trip[kind.pickup].startswith(str(month))
    ]  # fmt: skip


def seconds(trip: dict[str, str], kind: TaxiKind = YELLOW) -> float:
    return (
        dt.datetime.fromisoformat(trip[kind.dropoff]) - dt.datetime.fromisoformat(trip[kind.pickup])
    ).total_seconds()


def found(kind: TaxiKind, month: Month, rows: int) -> dict[str, int]:
    """The defects of a generated month, counted independently of the generator."""
    header, *data = lines(kind, month, rows)
    counts: Counter[str] = Counter()
    for line, trip in zip(data, trips(kind, month, rows), strict=True):
        if trip is None:
            surplus = line.count(",") - header.count(",")
            shape = "cut_line" if surplus < 0 else "surplus_fields"
            value = "impossible_date" if f"{month}-32" in line else "word_in_number"
            counts[shape if surplus else value] += 1
            continue
        pickup = dt.datetime.fromisoformat(trip[kind.pickup])
        day = dt.timedelta(days=1)
        counts["day_before"] += month.start - day <= pickup < month.start and pickup.year != 2008
        counts["day_after"] += month.end <= pickup < month.end + day
        counts["years_off"] += abs(pickup.year - month.year) > 1
        counts["zero_passengers"] += trip["passenger_count"] == "0"
        blank = {trip[n] for n in ("VendorID", "passenger_count", "RatecodeID", "store_and_fwd_flag", "payment_type")}
        assert "" not in blank or blank == {""}
        counts["unknown_passengers"] += blank == {""}
        counts["negative_fare"] += trip["fare_amount"].startswith("-")
        counts["dropoff_before_pickup"] += trip[kind.dropoff] < trip[kind.pickup]
    counts["duplicate"] = len(data) - len(set(data))
    return dict(counts)


@pytest.mark.parametrize("kind", [YELLOW, GREEN], ids=lambda kind: kind.name)
@pytest.mark.parametrize("rows", [1, 7, 250, 1000, CHUNK_ROWS + 1])
def test_a_month_has_the_declared_number_of_lines_and_of_each_defect(kind, rows):
    assert len(lines(kind, MONTH, rows)) == rows + 1
    declared = expected(kind, MONTH, rows)
    assert declared.lines == rows
    assert {name: n for name, n in found(kind, MONTH, rows).items() if n} == {
        name: n for name, n in declared.defects.items() if n
    }


@pytest.mark.parametrize("month", [Month(2009, 1), Month(2012, 2), Month(2022, 12), Month(2041, 8)], ids=str)
def test_any_month_can_be_generated(month):
    counts = found(YELLOW, month, 1000)
    declared = expected(YELLOW, month, 1000).defects
    if month == Month(2009, 1):  # its day before is 2008-12-31, which is also the year that is off
        counts["day_before"] += declared["day_before"]
        counts.setdefault("years_off", 0)
        declared = {**declared, "years_off": counts["years_off"]}
    assert counts == declared


def test_every_defect_occurs_from_a_thousand_rows_on():
    assert set(expected(YELLOW, MONTH, 1000).defects) == set(DEFECTS)
    assert min(expected(YELLOW, MONTH, 1000).defects.values()) == 1


def test_shares_are_those_of_the_published_month():
    facts = expected(YELLOW, MONTH, 1_369_765)
    assert facts.defects["unknown_passengers"] == pytest.approx(98_352, rel=0.01)
    assert facts.defects["zero_passengers"] == pytest.approx(26_726, rel=0.03)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_reader_and_default_rules_reject_the_declared_number_for_each_reason(kind, tmp_path):
    write_sample(tmp_path / "month.csv.gz", kind, MONTH, 20_000)
    facts = expected(kind, MONTH, 20_000)
    with stage(tmp_path, MONTH, kind.raw_schema, kind.table, "raw") as writer:
        for batch in open_trips(tmp_path / "month.csv.gz", kind, MONTH).batches:
            writer.write(batch)
        raw = writer.close()
    clean, rejected = clean_month(raw, kind, CleaningRules(), tmp_path)
    assert clean.manifest.extra["reasons"] == facts.reasons
    assert (clean.rows, rejected.rows) == (facts.expected_kept, facts.expected_rejected)


@pytest.mark.parametrize(("kind", "month"), [(FHV, MONTH), (FHVHV, MONTH), (FHVHV, Month(2025, 1))], ids=str)
def test_for_hire_trips_have_each_declared_defect(kind, month, tmp_path):
    write_sample(tmp_path / "month.csv.gz", kind, month, 20_000)
    with gzip.open(tmp_path / "month.csv.gz", "rt") as file:
        header, *rows = file.read().splitlines()
    assert header.endswith(",cbd_congestion_fee") == (month >= (2025, 1) and kind is FHVHV)
    table = pa.Table.from_batches(open_trips(tmp_path / "month.csv.gz", kind, month).batches)
    pickup, dropoff = (table[name].to_pylist() for name in (kind.pickup, kind.dropoff))
    declared = expected(kind, month, 20_000).defects
    assert not any(declared[name] for name in ("unknown_passengers", "zero_passengers"))
    assert len(rows) - len(set(rows)) == declared["duplicate"]
    assert sum(a > b for a, b in zip(pickup, dropoff, strict=True) if a) == declared["dropoff_before_pickup"]
    if kind is FHVHV:
        assert sum(fare < 0 for fare in table["base_passenger_fare"].to_pylist() if fare) == declared["negative_fare"]
        assert set(table["hvfhs_license_num"].to_pylist()) == {"HV0003", "HV0005", None}


def test_the_same_month_is_the_same_bytes_in_every_process(tmp_path):
    code = (
        "import sys, pathlib; from taxi_assets.publisher.sample import *; from taxi_assets.datasets.schema import YELLOW;"
        "write_sample(pathlib.Path(sys.argv[1]), YELLOW, Month(2021, 1), 70_000)"
    )
    for name in ("one", "two"):
        subprocess.run([sys.executable, "-c", code, tmp_path / name], cwd=REPOSITORY, check=True)
    write_sample(tmp_path / "three", YELLOW, MONTH, 70_000)
    assert len({(tmp_path / name).read_bytes() for name in ("one", "two", "three")}) == 1


def test_the_text_is_the_same_on_every_machine_and_with_every_numpy():
    digests = [
        hashlib.sha256("\n".join(lines(kind, month, 1000)).encode()).hexdigest()[:16]
        for month in (MONTH, Month(2026, 5))
        for kind in (YELLOW, GREEN)
    ]
    # changes with the tables of sample_trips only
    assert digests == ["5b6d62fa39adbed4", "520e4c4981b1f5f3", "3dca884caec2eee1", "2cbfe47246efce18"]


@pytest.mark.parametrize("kind", [YELLOW, GREEN], ids=lambda kind: kind.name)
def test_trips_without_passengers_have_a_request_source_from_2026_06_on(kind):
    assert lines(kind, Month(2026, 5), 1000)[0] == HEADERS[kind.name]
    assert lines(kind, Month(2026, 6), 20_000)[0] == f"{HEADERS[kind.name]},request_source"
    readable = [trip for trip in trips(kind, Month(2026, 6), 20_000) if trip]
    assert {trip["request_source"] for trip in readable if trip["passenger_count"]} == {""}
    sources = Counter(trip["request_source"] for trip in readable if not trip["passenger_count"])
    assert [source for source, _ in sources.most_common()] == ["HV0003", "A", "HV0005"]


def test_another_month_number_of_rows_kind_or_variant_is_another_text():
    base = lines(YELLOW, MONTH, 1000)[1:]
    others = [lines(YELLOW, Month(2021, 3), 1000), lines(YELLOW, MONTH, 1001), lines(GREEN, MONTH, 1000)]
    for other in others:
        assert not set(base) & set(other)


def test_a_variant_has_other_rows_and_the_same_counts():
    base, variant = lines(YELLOW, MONTH, 5000), lines(YELLOW, MONTH, 5000, variant=1)
    assert base[0] == variant[0]
    assert not set(base[1:]) & set(variant[1:])
    assert len(base) == len(variant)


@pytest.mark.parametrize(
    ("kind", "published"),
    [
        (YELLOW, "yellow_csv_samples/yellow_tripdata_2020-01_first1000.csv"),
        (YELLOW, "yellow_csv_samples/yellow_tripdata_2021-01_prefix.csv"),
        (GREEN, "green_full_months/green_tripdata_2020-03.csv.gz"),
    ],
)
def test_the_header_is_the_published_one(tlc, kind, published):
    path = tlc(published)
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        assert lines(kind, MONTH, 7)[0] == file.readline().decode().strip() == HEADERS[kind.name]


@pytest.mark.parametrize("kind", [YELLOW, GREEN], ids=lambda kind: kind.name)
def test_every_total_is_the_sum_of_its_parts_to_the_cent(kind):
    readable = [trip for trip in trips(kind, MONTH, 20_000) if trip]
    assert len(readable) > 19_000
    for trip in readable:
        assert Decimal(trip["total_amount"]) == sum(Decimal(trip[name] or 0) for name in AMOUNTS)


def test_amounts_are_printed_as_published():
    printed = {trip[name] for trip in good(YELLOW, MONTH, 20_000) for name in (*AMOUNTS, "total_amount")}
    assert {"0", "0.5", "2.5", "0.3", "52", "6.12"} <= printed
    assert not [text for text in printed if "." in text and text.endswith("0")]
    distances = {trip["trip_distance"] for trip in good(YELLOW, MONTH, 20_000)}
    assert all(len(text.split(".")[1]) == 2 and not text.startswith("0") for text in distances)


def test_pickups_follow_the_rhythm_of_day_and_week():
    pickups = [dt.datetime.fromisoformat(trip["tpep_pickup_datetime"]) for trip in good(YELLOW, Month(2021, 2), 60_000)]
    hours = Counter((pickup.weekday() > 4, pickup.hour) for pickup in pickups)
    assert hours[False, 4] * 5 < hours[False, 8] < hours[False, 18]
    assert hours[True, 1] > 1.5 * hours[False, 1]
    weekdays = Counter(pickup.weekday() for pickup in pickups)
    assert weekdays[4] > weekdays[0]
    assert {pickup.date() for pickup in pickups} == set(Month(2021, 2).days)


def test_distances_speeds_and_fares_are_plausible():
    kept = [t for t in good(YELLOW, MONTH, 20_000) if seconds(t) > 0]
    middle = {name: sorted(float(t[name]) for t in kept)[len(kept) // 2] for name in ("trip_distance", "fare_amount")}
    assert 1.5 < middle["trip_distance"] < 3
    assert 7 < middle["fare_amount"] < 12
    assert all(1 < float(t["trip_distance"]) / seconds(t) * 3600 < 45 for t in kept)
    assert all(1 <= int(t[end]) <= 263 for t in kept for end in ("PULocationID", "DOLocationID"))
    night = [t for t in kept if t["tpep_pickup_datetime"][11:13] in ("03", "04", "05")]
    noon = [t for t in kept if t["tpep_pickup_datetime"][11:13] in ("12", "13", "14")]

    def speed(some: list[dict[str, str]]) -> float:
        return sum(float(t["trip_distance"]) for t in some) / sum(seconds(t) for t in some)

    assert speed(night) > 1.2 * speed(noon)


def test_codes_and_amounts_agree_with_each_other():
    kept = good(YELLOW, MONTH, 20_000)
    for trip in kept:
        jfk = trip["RatecodeID"] == "2"
        assert not jfk or (trip["fare_amount"] == "52" and "132" in (trip["PULocationID"], trip["DOLocationID"]))
        assert trip["tip_amount"] == "0" or trip["payment_type"] == "1"
        assert (trip["mta_tax"], trip["improvement_surcharge"]) == ("0.5", "0.3")
        assert trip["congestion_surcharge"] in ("0", "2.5")
    assert Counter(trip["RatecodeID"] for trip in kept).keys() == {"1", "2", "3", "5"}
    assert 0.68 < sum(trip["payment_type"] == "1" for trip in kept) / len(kept) < 0.76
    assert 0.97 < sum(trip["store_and_fwd_flag"] == "N" for trip in kept) / len(kept) < 0.99


def test_refunds_mirror_an_earlier_trip():
    earlier: dict[tuple[str, ...], dict[str, str]] = {}
    refunds = 0
    for trip in filter(None, trips(YELLOW, MONTH, 20_000)):
        key = tuple(trip[name] for name in ("VendorID", "tpep_pickup_datetime", "PULocationID", "DOLocationID"))
        if trip["fare_amount"].startswith("-"):
            assert Decimal(trip["fare_amount"]) == -Decimal(earlier[key]["fare_amount"])
            refunds += 1
        earlier[key] = trip
    assert refunds == expected(YELLOW, MONTH, 20_000).defects["negative_fare"]


def test_memory_does_not_grow_with_the_month(tmp_path):
    code = (
        "import sys, pathlib, resource; from taxi_assets.publisher.sample import *;"
        "from taxi_assets.datasets.schema import YELLOW;"
        "write_sample(pathlib.Path(sys.argv[1]), YELLOW, Month(2021, 1), int(sys.argv[2]));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    small, large = (
        int(subprocess.run(
            [sys.executable, "-c", code, tmp_path / "month.csv.gz", str(rows)],
            cwd=REPOSITORY, check=True, capture_output=True, text=True,
        ).stdout)
        for rows in (200_000, 1_000_000)
    )  # fmt: skip
    assert large - small < 60, f"{small} MB for 200,000 rows, {large} MB for 1,000,000"


def test_a_month_that_cannot_be_written_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "month.csv.gz"
    write_sample(path, YELLOW, MONTH, 7)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(PermanentError, match=r"2021-01: the generated file .*month\.csv\.gz could not be written"):
        write_sample(path, YELLOW, MONTH, 8)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def refuse(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(PermanentError, match="could not be written"):
        write_sample(tmp_path / "absent" / "month.csv.gz", YELLOW, MONTH, 7)


@pytest.mark.parametrize("rows", [0, -1, 100_000_001])
def test_an_invalid_number_of_rows_is_refused(rows, tmp_path):
    with pytest.raises(PermanentError, match="1 to 100,000,000 rows"):
        write_sample(tmp_path / "month.csv.gz", YELLOW, MONTH, rows)
    assert not list(tmp_path.iterdir())
