"""Reading a damaged or hostile file takes bounded memory, does not crash the process, and prints nothing."""

import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from taxi_assets_tests.published_files import HEADER, ROW, parquet

AGAIN = "download the month again."

MEASURE = r"""
import re, sys
from pathlib import Path
from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.publisher.reader import open_trips
from taxi_assets.datasets.schema import YELLOW
peak = lambda: int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024
before = peak()
rows = 0
try:
    for batch in open_trips(Path(sys.argv[1]), YELLOW, Month(2019, 6)).batches:
        rows += batch.num_rows
except PermanentError as error:
    print(error)
print(rows, peak() - before)
"""


def measured(path: Path) -> tuple[str, int, int]:
    """Return the printed error, the rows, and by how many MiB the process grew."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True, timeout=120
    )
    *errors, figures = done.stdout.splitlines()
    rows, grown = map(int, figures.split())
    return "\n".join(errors), rows, grown


def gzip_member(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(content) + packer.flush()


BOMBS = {
    "of rows": f"{ROW}\n".encode() * 100_000,
    "of one line": b"1" * (8 << 20),
    "of blank lines": b"\n" * (8 << 20),
    "of NULs": bytes(8 << 20),
}


@pytest.mark.parametrize("what", BOMBS)
def test_a_gzip_bomb_is_refused_in_bounded_memory(what: str, tmp_path: Path) -> None:
    path = tmp_path / "yellow_tripdata_2019-06.csv.gz"
    path.write_bytes(gzip_member(f"{HEADER}\n{ROW}\n".encode()) + gzip_member(BOMBS[what]) * 500)
    error, _, grown = measured(path)
    assert "MiB from" in error
    assert error.endswith(f"bytes, unlike trip records (a gzip bomb?); {AGAIN}")
    assert grown < 350


@pytest.mark.parametrize(
    ("what", "filler"), {"long lines": b"z" * (10 << 20), "short lines": b"a\n" * (1 << 20)}.items()
)
def test_a_file_of_malformed_lines_is_read_in_bounded_memory(what: str, filler: bytes, tmp_path: Path) -> None:
    path = tmp_path / "yellow_tripdata_2019-06.csv"
    times = 20 if what == "long lines" else 1
    path.write_bytes(f"{HEADER}\n".encode() + (ROW.encode() + b"\n" + filler + b"\n") * times)
    error, rows, grown = measured(path)
    assert error == ""
    assert rows == (40 if what == "long lines" else (1 << 20) + 1)
    assert grown < 350


DAMAGE_FOOTERS = """
import sys
from pathlib import Path
from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.publisher.reader import open_trips
from taxi_assets.datasets.schema import YELLOW
path, content = Path(sys.argv[1]), Path(sys.argv[1]).read_bytes()
start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
refused = 0
for at in range(start, len(content) - 8, 7):
    path.write_bytes(content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :])
    try:
        rows = sum(batch.num_rows for batch in open_trips(path, YELLOW, Month(2019, 6)).batches)
        assert rows == 1, (at, rows)
    except PermanentError:
        refused += 1
print(refused)
"""


def test_a_damaged_parquet_footer_never_crashes_the_process(tmp_path: Path) -> None:
    path = tmp_path / "yellow_tripdata_2019-06.parquet"
    parquet(path)
    done = subprocess.run([sys.executable, "-c", DAMAGE_FOOTERS, path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 50


def test_malformed_lines_that_are_not_utf8_are_kept_and_print_nothing(tmp_path: Path) -> None:
    path = tmp_path / "yellow_tripdata_2019-06.csv"
    path.write_bytes(f"{HEADER}\n{ROW}\n".encode() + b"\xe1\xff,2\n" + f"{ROW}\n".encode())
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split()[0] == "3"
    assert done.stderr == ""
