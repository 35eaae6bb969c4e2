"""The zone lookup: both of the publisher's texts are read alike, and a file that is not the lookup is refused."""

import csv
from pathlib import Path

import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.publisher.zone_lookup import UNKNOWN_WORDS, ZONE_SCHEMA, read_zones, sample_zones

HEADER = '"LocationID","Borough","Zone","service_zone"'
ROWS = [f'{number},"Queens","Somewhere {number}","Boro Zone"' for number in range(1, 264)]
TEXTS = ["lookup/taxi_zone_lookup.csv", "lookup/taxi_zone_lookup_pre2024.csv"]


def lookup(folder: Path, *lines: str) -> Path:
    path = folder / "zones.csv"
    path.write_text("\r\n".join(lines) + "\r\n")
    return path


@pytest.mark.parametrize("text", TEXTS)
def test_the_published_lookup_is_read_as_it_is(tlc, text):
    with tlc(text).open(newline="") as file:
        _, *rows = csv.reader(file)
    published = [[int(row[0]), *(None if value in UNKNOWN_WORDS else value for value in row[1:])] for row in rows]
    published[264][2] = "Outside of NYC"
    table = read_zones(tlc(text))
    assert table.schema.equals(ZONE_SCHEMA, check_metadata=True)
    assert [list(row.values()) for row in table.to_pylist()] == published


def test_the_older_and_the_current_text_mean_the_same(tlc):
    current, older = (read_zones(tlc(text)) for text in TEXTS)
    assert current.equals(older)
    assert current.num_rows == 265
    assert current["zone"].null_count == 1


def test_zones_are_ordered_and_264_and_265_may_be_absent(tmp_path):
    table = read_zones(lookup(tmp_path, HEADER, *reversed(ROWS)))
    assert table["locationid"].to_pylist() == list(range(1, 264))


def test_every_way_to_say_unknown_is_empty(tmp_path):
    rows = [f'{number},"{word}","N/A","{word}"' for number, word in enumerate(UNKNOWN_WORDS, 1)]
    table = read_zones(lookup(tmp_path, HEADER, *rows, *ROWS[len(rows) :])).slice(0, len(rows))
    assert [table[name].null_count for name in ("borough", "zone", "service_zone")] == [len(rows)] * 3


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["<html><body>Forbidden</body></html>"], "has the header <html>"),
        (['"OBJECTID","Shape_Leng","the_geom","zone"', "1,2,3,4"], "instead of LocationID,Borough,Zone,service_zone"),
        ([HEADER], "has no row for ids: 1,2,3,4,5,..."),
        ([HEADER, *ROWS[:-1]], "has no row for ids: 263"),
        ([HEADER, *ROWS, ROWS[41]], "has ids twice: 42"),
        ([HEADER, *ROWS, '266,"Queens","Nowhere","Boro Zone"'], "has ids outside 1 to 265: 266"),
        ([HEADER, *ROWS, ',"Queens","Nowhere","Boro Zone"'], "has ids outside 1 to 265: empty"),
        ([HEADER, *ROWS, 'x,"Queens","Nowhere","Boro Zone"'], "cannot be read as CSV"),
        ([HEADER, *ROWS, "264,too,few"], "cannot be read as CSV"),
    ],
)
def test_a_file_that_is_not_the_lookup_is_refused_in_one_sentence(tmp_path, lines, sentence):
    with pytest.raises(PermanentError) as refused:
        read_zones(lookup(tmp_path, *lines))
    assert sentence in str(refused.value)
    assert str(refused.value).endswith("; fetch the publisher's taxi_zone_lookup.csv again.")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe" * 50])
def test_an_empty_or_binary_file_is_refused(tmp_path, content):
    path = tmp_path / "zones.csv"
    path.write_bytes(content)
    with pytest.raises(PermanentError, match="fetch the publisher's"):
        read_zones(path)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(PermanentError, match=r"absent\.csv is not there"):
        read_zones(tmp_path / "absent.csv")


def test_generated_zones_say_so_and_have_the_published_ids_and_boroughs(tlc):
    generated, published = sample_zones(), read_zones(tlc(TEXTS[0]))
    assert generated.schema == ZONE_SCHEMA
    for name in ("locationid", "borough", "service_zone"):
        assert generated[name].to_pylist() == published[name].to_pylist()
    names = generated["zone"].to_pylist()
    assert names[131] == "Zone 132 (sample)"
    assert all(name.endswith("(sample)") for name in names if name)
    assert [name is None for name in names] == [name is None for name in published["zone"].to_pylist()]
