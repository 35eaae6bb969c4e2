"""Small files in the publisher's formats, for tests."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from taxi_assets.core.month import Month
from taxi_assets.datasets.encodings import CODES, LICENSES
from taxi_assets.datasets.eras import Era
from taxi_assets.datasets.schema import YELLOW, TaxiKind
from taxi_assets.publisher.reader import open_trips

MONTH = Month(2019, 6)
HEADER = (
    "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,RatecodeID,store_and_fwd_flag,"
    "PULocationID,DOLocationID,payment_type,fare_amount,extra,mta_tax,tip_amount,tolls_amount,improvement_surcharge,"
    "total_amount,congestion_surcharge"
)
ROW = "1,2019-06-01 00:55:13,2019-06-01 00:56:17,1,.00,1,N,145,145,2,3,0.5,0.5,0,0,0.3,4.3,0"
NAMES = HEADER.split(",")
VALUES = dict(zip(NAMES, ROW.split(","), strict=True))


def line(**values: str) -> str:
    """Return a row of 2019 with some values replaced, by their published names."""
    assert not values.keys() - VALUES.keys()
    return ",".join((VALUES | values).values())


def csv_file(
    folder: Path, *lines: str | bytes, header: str | bytes = HEADER, end: bytes = b"\r\n", name: str = ""
) -> Path:
    """Write a CSV of the header and the lines; gzipped when the name ends in .gz."""
    path = folder / (name or "yellow_tripdata_2019-06.csv")
    parts = [part.encode() if isinstance(part, str) else part for part in (header, *lines)]
    content = end.join([*parts, b""])
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def parquet(path: Path, table: pa.Table | None = None) -> bytes:
    """Write a table, by default of one trip, and return the file's bytes."""
    times = [MONTH.start]
    table = table or pa.table({name: times if name.endswith("datetime") else [1] for name in NAMES})
    pq.write_table(table, path)
    return path.read_bytes()


def read(path: Path, kind: TaxiKind = YELLOW, month: Month = MONTH) -> pa.Table:
    """Read the complete file in the raw schema."""
    opened = open_trips(path, kind, month)
    return pa.Table.from_batches(opened.batches, opened.schema)


def unreadable(table: pa.Table) -> list[tuple[str, str, int, str]]:
    """Return reason, detail, line and text of every unreadable row."""
    rejected = table.filter(table["reject_reason"].is_valid()).select(
        ["reject_reason", "reject_detail", "source_line", "source_text"]
    )
    return [tuple(row.values()) for row in rejected.to_pylist()]


VENDOR_WORDS = {1: ["CMT"], 2: ["VTS"], 3: ["DDS"]}
PAYMENT_WORDS = {
    "2009": {1: ["CREDIT", "Credit"], 2: ["CASH", "Cash"], 3: ["No Charge"], 4: ["Dispute"]},
    "2010": {1: ["CRE", "Cre"], 2: ["CAS", "Cas"], 3: ["No "], 4: ["Dis"], 5: ["NA "]},
    "2011": {1: ["CRD"], 2: ["CSH"], 3: ["NOC"], 4: ["DIS"], 5: ["UNK"]},
}
FLAG_DIGITS = {"N": ["0"], "Y": ["1"]}


def words(era: Era) -> dict[str, dict]:
    """Return how an era writes codes: canonical column to canonical value to spellings; only columns with codes."""
    if era.kind != "yellow" or (era.first >= "2015" if era.publication == "csv" else era.first >= "2011"):
        return {}
    first_half_of_2010 = {"payment_type": PAYMENT_WORDS["2010"], "store_and_fwd_flag": FLAG_DIGITS}
    by_year = {
        "2009": {"payment_type": PAYMENT_WORDS["2009"], "store_and_fwd_flag": FLAG_DIGITS},
        "2010": first_half_of_2010,
    }
    return {"vendorid": VENDOR_WORDS, **by_year.get(era.first[:4], {"payment_type": PAYMENT_WORDS["2011"]})}


def csv_text(value: object) -> str:
    """Format a value for a CSV."""
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


QUOTED_COMMA = '","'


def era_csv(era: Era, rows: list[list[object]], end: str = "\r\n") -> bytes:
    """Return a file of the era, with published values in the order of its header."""
    lines = [",".join(era.header), *([""] if "the line after the header is empty" in era.oddities else [])]
    lines += [",".join(map(csv_text, row)) + "," * era.surplus_fields for row in rows]
    if "every field is quoted" in era.oddities:
        lines = [f'"{text.replace(",", QUOTED_COMMA)}"' for text in lines]
    return (end.join(lines) + end).encode()


COMMON_TYPES = {
    "vendorid": pa.int64(),
    "passenger_count": pa.int64(),
    "ratecodeid": pa.int64(),
    "payment_type": pa.int64(),
    "pulocationid": pa.int64(),
    "dolocationid": pa.int64(),
    "store_and_fwd_flag": pa.string(),
    "request_source": pa.large_string(),
    "trip_type": pa.int64(),
}
COMMON_TYPES |= dict.fromkeys(LICENSES, pa.string()) | {name: pa.string() for name in CODES if name.endswith("_flag")}
COMMON_TYPES |= {"sr_flag": pa.int64(), "trip_time": pa.int64()}
TYPE_NAMES = {"double": pa.float64(), "string": pa.string(), "int32": pa.int32(), "number": pa.float64()}


def era_parquet(era: Era, canonical: list[str], rows: list[list[object]], path: Path) -> bytes:
    """Write a file of the era, with published values in the order of its header; `canonical` are its canonical names."""
    types = dict(era.types)
    columns = {}
    for i, (published, name) in enumerate(zip(era.header, canonical, strict=True)):
        common = pa.timestamp("us") if name.endswith("datetime") else COMMON_TYPES.get(name, pa.float64())
        target = TYPE_NAMES[types[published]] if published in types else common
        values = [row[i] for row in rows]
        if all(value is None for value in values) and name in ("airport_fee", "congestion_surcharge", "ehail_fee"):
            target = pa.null()
        elif target in (pa.string(), pa.large_string()):
            values = [None if value is None else str(value) for value in values]
        elif target == pa.float64():
            values = [None if value is None else float(value) for value in values]
        columns[published] = pa.array(values, target)
    pq.write_table(pa.table(columns), path)
    return path.read_bytes()
