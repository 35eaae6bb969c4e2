"""The lookup of the bases of for-hire vehicles, in the forms in which people hold it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.publisher.base_lookup import read_bases


def written(folder: Path, text: str) -> Path:
    (folder / "bases.csv").write_text(text)
    return folder / "bases.csv"


def test_a_real_lookup_is_read(tlc: Callable[[str], Path]):
    path = tlc("lookup/fhv_bases.csv")
    bases = read_bases(path).to_pylist()
    lines = path.read_text().splitlines()
    assert len(bases) == len({line.split(",")[0] for line in lines[1:]})
    assert bases[0] == {
        "base_number": "B00001",
        "base_name": "LONDON TOWNCARS INC",
        "dba": None,
        "dba_category": "other",
    }
    assert "B02510" in {base["base_number"] for base in bases}


def test_the_columns_of_the_aggregate_report_are_known_and_of_a_base_s_rows_the_last_counts(tmp_path: Path):
    path = written(
        tmp_path,
        "\ufeffBase License Number,Base Name,DBA,Year\n b02510 ,OLD,,2015\nB02510,TRI-CITY LLC,LYFT,2016\n,none,,\ntotal,x,,\n",
    )
    assert read_bases(path).to_pylist() == [
        {"base_number": "B02510", "base_name": "TRI-CITY LLC", "dba": "LYFT", "dba_category": None}
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "has no column base_number or base_name"),
        ("LocationID,Borough\n1,EWR\n", "has no column base_number or base_name"),
        ("base_number,name\nB00001,x\n", "has no column base_name "),
        ("base_number,base_name\nnone,x\n", "has no row with a base number"),
        ('base_number,base_name\n"B00001,x\n', "cannot be read as CSV"),
    ],
)
def test_another_file_is_refused_in_one_line(text: str, fault: str, tmp_path: Path):
    with pytest.raises(PermanentError, match=rf"bases\.csv {fault}.*; name a CSV with .* in TAXI_FHV_BASES\.$"):
        read_bases(written(tmp_path, text))
