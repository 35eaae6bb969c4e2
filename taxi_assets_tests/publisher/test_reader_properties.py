"""Properties: random trips written as each era writes them are read back equal; damaged bytes lose no row silently."""

import datetime as dt
import gzip
import math
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.encodings import LICENSES
from taxi_assets.datasets.eras import ERAS, Era
from taxi_assets.datasets.schema import KINDS, YELLOW
from taxi_assets.publisher.columns import canonical_name
from taxi_assets.publisher.reader import open_trips
from taxi_assets.publisher.rows import REASONS, TEXT_BYTES
from taxi_assets_tests.published_files import HEADER, MONTH, era_csv, era_parquet, line, read, words

QUIET = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
SMALL = st.integers(-(2**15), 2**15 - 1)
MONEY = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-10_000, 100_000).map(lambda cents: cents / 100)
SECONDS = st.datetimes(dt.datetime(1901, 1, 1), dt.datetime(2099, 12, 31)).map(
    lambda moment: moment.replace(microsecond=0)
)
MICROSECONDS = st.datetimes(dt.datetime(1901, 1, 1), dt.datetime(2099, 12, 31))


def canonical(era: Era) -> list[str]:
    return [canonical_name(name, KINDS[era.kind]) for name in era.header]


@st.composite
def published(draw: st.DrawFn, era: Era) -> tuple[list[list[object]], list[dict[str, object]]]:
    """Rows as published in the era, and their trips."""
    spelt = words(era)
    types = dict(era.types)
    rows: list[list[object]] = []
    trips: list[dict[str, object]] = []
    for _ in range(draw(st.integers(1, 8))):
        row, trip = [], {}
        for name, column in zip(canonical(era), era.header, strict=True):
            if name in trip:  # the base of FHV in 2018, of which the second column is empty
                row.append(None)
                continue
            if draw(st.integers(0, 9)) == 0:
                value = shown = None
            elif name in spelt:
                value = draw(st.sampled_from(sorted(spelt[name])))
                shown = draw(st.sampled_from(spelt[name][value]))
            elif name.endswith("_datetime"):
                exact = era.publication == "parquet" and types.get(column) != "string"
                value = shown = draw(MICROSECONDS if exact else SECONDS)
            elif name.endswith("_flag") and name != "sr_flag":
                value = shown = draw(st.sampled_from(["N", "Y"]))
            elif name in LICENSES:
                value = draw(st.sampled_from(["B00256", "HV0003", "UBER", "B02811 - M.L. Trips"]))
                shown = f"{value}  " if draw(st.booleans()) else value
            elif name == "request_source":
                value = shown = draw(st.sampled_from(["A", "HV0003", "HV0005", "B", "hv 7"]))
            else:
                integer = pa.types.is_integer(KINDS[era.kind].schema.field(name).type)
                value = shown = draw(SMALL if integer else MONEY)
            row.append(shown)
            trip[name] = value
        rows.append(row)
        trips.append(trip)
    return rows, trips


def check(path: Path, era: Era, trips: list[dict[str, object]]) -> None:
    kind = KINDS[era.kind]
    table = read(path, kind, Month.parse(era.first))
    assert table["reject_reason"].null_count == table.num_rows
    assert table.select(kind.raw_schema.names).to_pylist() == [
        dict.fromkeys(kind.raw_schema.names) | trip for trip in trips
    ]


def era_id(era: Era) -> str:
    return f"{era.kind}-{era.publication}-{era.first}"


@pytest.mark.parametrize("era", [era for era in ERAS if era.publication == "csv"], ids=era_id)
@given(data=st.data(), end=st.sampled_from(["\n", "\r\n"]), compressed=st.booleans())
@QUIET
def test_trips_written_as_an_eras_csv_are_read_back_equal(
    era: Era, data: st.DataObject, end: str, compressed: bool, tmp_path: Path
) -> None:
    rows, trips = data.draw(published(era))
    content = era_csv(era, rows, end)
    path = tmp_path / "trips"
    path.write_bytes(gzip.compress(content) if compressed else content)
    check(path, era, trips)


@pytest.mark.parametrize("era", [era for era in ERAS if era.publication == "parquet"], ids=era_id)
@given(data=st.data())
@QUIET
def test_trips_written_as_an_eras_parquet_are_read_back_equal(era: Era, data: st.DataObject, tmp_path: Path) -> None:
    rows, trips = data.draw(published(era))
    era_parquet(era, canonical(era), rows, tmp_path / "trips")
    check(tmp_path / "trips", era, trips)


BODY = [line(VendorID=str(i % 3), extra=f"{i}.5", store_and_fwd_flag="NY"[i % 2]).encode() for i in range(12)]
INTERESTING = st.sampled_from(
    [
        b"",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b",",
        b",,",
        b'"',
        b'""',
        b"\0",
        b"\xff",
        b" ",
        b"\t",
        b"-",
        b".",
        b"e9",
        b"nan",
        b"x" * 50,
    ]
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes, start: int) -> bytes:
    """The content with a few cuts and insertions after `start`."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(start, len(content)))
        length = draw(st.sampled_from([0, 0, 1, 1, 2, 5, 40, 200]))
        content = content[:at] + draw(INTERESTING | st.binary(max_size=4)) + content[at + length :]
    return content


@given(data=st.data(), end=st.sampled_from([b"\n", b"\r\n"]))
@settings(QUIET, max_examples=300)
def test_whatever_is_damaged_in_a_csv_every_line_is_accounted_for(
    data: st.DataObject, end: bytes, tmp_path: Path
) -> None:
    intact = {}
    path = tmp_path / "trips.csv"
    path.write_bytes(end.join([HEADER.encode(), *BODY, b""]))
    for text, row in zip(BODY, read(path).to_pylist(), strict=True):
        intact[text] = row
    content = data.draw(damaged(path.read_bytes(), len(HEADER) + len(end)))
    path.write_bytes(content)
    lines = [
        (number, text.rstrip(b"\r"))
        for number, text in enumerate(content.split(b"\n"), 1)
        if number > 1 and text.rstrip(b"\r")
    ]
    if content.endswith(b"PAR1") or not any(text in intact for _, text in lines):
        return  # such a file may be refused: it looks like Parquet, or has no line of the publisher's
    rows = read(path).to_pylist()
    assert len(rows) == len(lines)
    for row, (number, text) in zip(rows, lines, strict=True):
        if text in intact:
            assert row == intact[text]
        elif row["reject_reason"]:
            assert row["reject_reason"] in REASONS
            assert row["source_line"] == number
            assert row["source_text"] == text.decode("utf-8", "backslashreplace").replace("\0", r"\x00")
            assert {row[name] for name in YELLOW.schema.names} == {None}


@given(data=st.data())
@settings(QUIET, max_examples=150)
def test_a_damaged_header_is_refused_or_still_the_same_header(data: st.DataObject, tmp_path: Path) -> None:
    content = b"\n".join([HEADER.encode(), *BODY, b""])
    at = data.draw(st.integers(0, len(HEADER) - 1))
    damaged_header = content[:at] + data.draw(INTERESTING | st.binary(max_size=3)) + content[at + 1 :]
    assume(damaged_header != content)
    path = tmp_path / "trips.csv"
    path.write_bytes(damaged_header)
    table, refusal = None, ""
    try:
        table = read(path)
    except PermanentError as error:
        refusal = str(error)
    if table is None:
        assert refusal.startswith(f"{MONTH}: {path} ")
        assert "\n" not in refusal
    else:
        assert table.num_rows == sum(1 for text in damaged_header.split(b"\n")[1:] if text.rstrip(b"\r"))


@given(at=st.integers(0, 10_000), noise=st.binary(min_size=1, max_size=8), cut=st.booleans())
@settings(QUIET, max_examples=150)
def test_damage_to_a_gzip_file_is_found_or_harmless(at: int, noise: bytes, cut: bool, tmp_path: Path) -> None:
    plain = b"\n".join([HEADER.encode(), *BODY * 20, b""])
    packed = gzip.compress(plain, mtime=0)
    at %= len(packed)
    path = tmp_path / "trips.csv.gz"
    path.write_bytes(packed[:at] if cut else packed[:at] + noise + packed[at + len(noise) :])
    try:
        table = read(path)
    except PermanentError:
        return
    assert table.num_rows == len(BODY) * 20
    assert math.isclose(sum(table["extra"].to_pylist()), sum(i + 0.5 for i in range(12)) * 20)


@given(text=st.text() | st.binary().map(lambda raw: raw.decode("latin-1")), column=st.sampled_from(HEADER.split(",")))
@settings(QUIET, max_examples=300)
def test_any_text_in_a_field_is_read_alike_in_both_ways_of_splitting(text: str, column: str) -> None:
    from taxi_assets.publisher.columns import match_columns
    from taxi_assets.publisher.csv_reader import Layout, read_block, split_at_once, split_by_line
    from taxi_assets.publisher.lines import Block
    from taxi_assets.publisher.rows import raw_rows
    from taxi_assets.publisher.source_file import SourceFile

    assume(not set(text) & set(',\n\r"'))
    header = HEADER.split(",")
    columns = match_columns(SourceFile(Path("a.csv"), YELLOW, MONTH), header, "csv")
    layout = Layout(YELLOW.raw_schema, columns, len(header), 0)
    data = f"{line()}\n{line(**{column: text})}\n{line()},\n1,2\n{line()}\n".encode()
    block = Block(data, 2, 5, len(data), {})
    by_line = raw_rows(YELLOW.raw_schema, *split_by_line(layout, block))
    assert by_line.num_rows == 5
    assert read_block(layout, block).equals(by_line)
    block = Block(data.replace(b",\n1,2", b"\n1,2"), 2, 5, len(data), {})
    by_line = raw_rows(YELLOW.raw_schema, *split_by_line(layout, block))
    assert read_block(layout, block).equals(by_line)
    if text.isascii():  # only then does Arrow report the malformed line
        at_once = split_at_once(layout, block)
        assert at_once is not None
        assert raw_rows(YELLOW.raw_schema, *at_once).equals(by_line)


def test_the_kept_text_is_capped() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trips.csv"
        path.write_bytes(f"{HEADER}\n{line()}\n".encode() + b"w" * (TEXT_BYTES + 1) + b"\n")
        rejected = next(open_trips(path, YELLOW, MONTH).batches).to_pylist()[1]
    assert rejected["source_text"] == "w" * TEXT_BYTES + f" [cut here: {TEXT_BYTES + 1} bytes in all]"
