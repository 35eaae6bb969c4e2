"""Templates of sources; folders, archives and parts as sources; what requests' own settings do."""

import gzip
import os
import re
import ssl
import zipfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import GREEN, YELLOW
from taxi_assets.publisher.reader import open_trips
from taxi_assets.publisher.source import trip_source
from taxi_assets_tests.certificates import own_certificate
from taxi_assets_tests.misbehaving_server import MisbehavingServer, Offer, misbehaving_server
from taxi_assets_tests.published_files import HEADER, MONTH, ROW, csv_file, line, parquet, read, unreadable

DATA_PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"
CSV = f"{HEADER}\n{ROW}\n".encode()


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{kind} {month}.csv", "green 2019-06.csv"),
        ("{year}/{month_number}/{kind}.csv", "2019/06/green.csv"),
        ("{month_number}-{year} é.csv", "06-2019 é.csv"),
        ("y={year}/m={month_number}", "y=2019/m=06"),
    ],
)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_template_names_the_month_in_any_order(template: str, name: str, scheme: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CSV)
    source = trip_source(f"{scheme}{tmp_path}/{template}", 10, Path("/"))
    published = source.probe(GREEN, MONTH)
    assert published is not None
    assert published.size == len(CSV)
    assert source.fetch(GREEN, MONTH, tmp_path).path == path
    assert source.probe(GREEN, Month(2019, 7)) is None


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{mnth}.csv", "has '{mnth}' in it, which is none of {month}, {year}, {month_number}, {kind}"),
        ("{month}{.csv", "has '{' in it"),
        (
            "{year}.csv",
            "must be tlc, datatalks, sample, or a path or URL that contains {month}, or {year} and {month_number}",
        ),
    ],
)
def test_a_template_that_names_no_month_is_refused_at_start(template: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=re.escape(words)):
        trip_source(template, 10, tmp_path)


def test_a_folder_is_one_file_whose_version_changes_with_any_part(tmp_path: Path) -> None:
    folder = tmp_path / "2019-06"
    folder.mkdir()
    source = trip_source(str(tmp_path / "{month}"), 10, Path("/"))
    assert source.probe(YELLOW, MONTH) is None, "an empty folder is no month"
    (folder / "part-1.csv").write_bytes(CSV)
    (folder / "_SUCCESS").touch()
    first = source.probe(YELLOW, MONTH)
    (folder / "part-0.csv").write_bytes(CSV)
    second = source.probe(YELLOW, MONTH)
    assert first is not None
    assert second is not None
    assert first.version != second.version
    assert second.size == 2 * len(CSV)
    fetched = source.fetch(YELLOW, MONTH, tmp_path)
    assert (fetched.path, fetched.size) == (folder, 2 * len(CSV))
    os.utime(folder / "part-0.csv", (1, 1))
    third = source.probe(YELLOW, MONTH)
    assert third is not None
    assert third.version != second.version
    assert source.fetch(YELLOW, MONTH, tmp_path).sha256 == fetched.sha256


def parts(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_eq_", "=")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_rows_and_lines_are_counted_through_the_parts(tmp_path: Path) -> None:
    bad = f"{HEADER}\n{ROW}\n{line(fare_amount='x')}\n".encode()
    found = read(parts(tmp_path / "csv", a=bad, b=gzip.compress(bad), c=b"", _SUCCESS=b"x"))
    assert found.num_rows == 4
    assert [reject[2] for reject in unreadable(found)] == [3, 6]
    table = pa.table({name: [MONTH.start if name.endswith("time") else "x"] for name in HEADER.split(",")})
    good = parquet(tmp_path / "good.parquet")
    found = read(parts(tmp_path / "parquet", a=good, b=parquet(tmp_path / "bad.parquet", table), c=good))
    assert found["vendorid"].to_pylist() == [1, None, 1]
    assert [reject[2] for reject in unreadable(found)] == [2]


def test_a_hive_partition_is_a_column_of_the_trips_if_their_files_have_it_not(tmp_path: Path) -> None:
    names = [name for name in HEADER.split(",") if name != "payment_type"]
    fields = dict(zip(HEADER.split(","), ROW.split(","), strict=True))
    content = "\n".join([",".join(names), ",".join(fields[name] for name in names), "1"]).encode()
    month = parts(tmp_path / "trips", payment_type_eq_1__a=content)
    under = month / "payment_type=__HIVE_DEFAULT_PARTITION__"
    under.mkdir()
    (under / "b").write_bytes(content)
    found = read(month)
    assert sorted(found["payment_type"].to_pylist(), key=str) == [1, None, None, None]
    assert len(unreadable(found)) == 2
    opened = open_trips(parts(tmp_path / "day", day_eq_5__a=CSV), YELLOW, MONTH)
    assert opened.columns["new"] == {}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a": CSV, "b": CSV.replace(b"extra", b"more")}, "b has another header than a"),
        ({"a": CSV, "b": b"PAR1 PAR1 PAR1"}, "b is a Parquet file among CSV files"),
        ({"a": CSV, "x_eq_1__b": CSV}, "b is in other partitions than a"),
        ({"_a": CSV}, "is a folder without files"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(files: dict[str, bytes], words: str, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=words):
        read(parts(tmp_path / "trips", **files))


def test_parquet_parts_with_other_columns_are_refused(tmp_path: Path) -> None:
    whole = parquet(tmp_path / "whole")
    less = parquet(tmp_path / "less", pq.read_table(tmp_path / "whole").drop_columns("extra"))
    with pytest.raises(PermanentError, match="b has other columns than a"):
        read(parts(tmp_path / "trips", a=whole, b=less))
    with pytest.raises(PermanentError, match="b is no Parquet file, among Parquet files"):
        read(parts(tmp_path / "mixed", a=whole, b=CSV))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "is an empty zip archive"),
        ({"a.csv": CSV, "b.csv": CSV}, "is a zip archive of 2 files; unpack it"),
        ({"[Content_Types].xml": b"", "xl/workbook.xml": b""}, "is an Excel workbook; save its sheet as CSV"),
        ({"a.zip": b"PK\x03\x04"}, "was compressed twice"),
    ],
)
def test_zip_archives_that_are_no_month(members: dict[str, bytes], words: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(PermanentError, match=re.escape(words)):
        read(tmp_path / "a.zip")


def test_a_zip_archive_is_read_whatever_is_in_it(tmp_path: Path) -> None:
    contents = {"a.csv": CSV, "a.csv.gz": gzip.compress(CSV), "a.parquet": parquet(tmp_path / "a.parquet")}
    for name, content in contents.items():
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("__MACOSX/._a", b"")
            archive.writestr(f"folder/{name}", content)
        assert read(tmp_path / f"{name}.zip").num_rows == 1


def test_a_zip_bomb_and_a_damaged_archive_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", CSV + b"\n" * (64 << 20))
    with pytest.raises(PermanentError, match="a gzip bomb"):
        read(tmp_path / "bomb.zip")
    rows = CSV + f"{ROW}\n".encode() * 20_000
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", rows)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(PermanentError, match="is damaged or truncated"):
        read(tmp_path / "a.zip")


def test_a_file_of_many_months_is_split_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statement = next(iter(re.findall(r"```sql\n(COPY .*?)\n```", DATA_PAGE.read_text())))
    months = [Month(2019, 6), Month(2019, 7), Month(2019, 7)]
    rows = [line(tpep_pickup_datetime=f"{month.start}") for month in months]
    table = read(csv_file(tmp_path, *rows)).select(YELLOW.schema.names)
    pq.write_table(table, tmp_path / "trips.parquet")
    monkeypatch.chdir(tmp_path)
    duckdb.sql(statement)
    source = trip_source("by_month/m={month}", 10, tmp_path)
    counts = [read(source.fetch(YELLOW, month, tmp_path).path, month=month).num_rows for month in (MONTH, MONTH.next)]
    assert counts == [1, 2]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MisbehavingServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with misbehaving_server() as server:
        server.offers["/2019-06.csv"] = Offer(CSV)
        yield server


def test_a_private_certificate_authority_is_trusted_where_requests_is_told(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = own_certificate(tmp_path / "own")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    source = trip_source(server.address.replace("http:", "https:") + "/{month}.csv", 10, tmp_path)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with pytest.raises(PermanentError, match=r"certificate that is not trusted; .*REQUESTS_CA_BUNDLE"):
        source.fetch(YELLOW, MONTH, tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert source.fetch(YELLOW, MONTH, tmp_path).path.read_bytes() == CSV


def test_a_netrc_has_the_login_unless_the_address_has_one(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    trip_source(server.address + "/{month}.csv", 10, tmp_path).fetch(YELLOW, MONTH, tmp_path / "a")
    address = server.address.replace("//", "//you:other@")
    trip_source(address + "/{month}.csv", 10, tmp_path).fetch(YELLOW, MONTH, tmp_path / "b")
    sent = {request.headers.get("Authorization") for request in server.requests("GET")}
    assert sent == {"Basic bWU6c2VjcmV0", "Basic eW91Om90aGVy"}


def test_a_proxy_is_used(server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.address)
    source = trip_source("http://files.invalid/{month}.csv", 10, tmp_path)
    assert source.fetch(YELLOW, MONTH, tmp_path).path.read_bytes() == CSV
