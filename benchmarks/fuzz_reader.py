"""Feeds damaged files to the reader until a time is up: `python benchmarks/fuzz_reader.py 120 [seed]`.

Files of every era, as published and as other tools could have written them, and real ones from TAXI_TEST_DATA where it is
set, are damaged at random, and read with one of several settings. The reader must refuse
them in one sentence or account for every line; anything else is kept in a folder and told. It works in a child
process, so that a crash of a native library is found too.
"""

from __future__ import annotations

import datetime as dt
import gzip
import io
import os
import random
import re
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.datasets.eras import ERAS, Era
from taxi_assets.datasets.schema import KINDS
from taxi_assets.publisher.columns import canonical_name
from taxi_assets.publisher.options import ReadOptions
from taxi_assets.publisher.reader import open_trips
from taxi_assets.publisher.rows import REASONS
from taxi_assets.publisher.times import is_time
from taxi_assets_tests.published_files import era_csv, era_parquet, words

TOKENS = [
    b"",
    b"\n",
    b"\r",
    b"\r\n",
    b",",
    b",,,",
    b'"',
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b" ",
    b"nan",
    b"1e309",
    b"\x1f\x8b",
    b"PAR1",
]
Seed = tuple[str, str, Month, bytes]
"""An intact file: format, kind, month, content."""
SLOW = 20.0
"""Seconds after which reading a small file counts as a hang."""


def some_rows(era: Era, chance: random.Random, count: int) -> list[list[object]]:
    """Plausible published rows of the era."""
    spelt = words(era)
    kind = KINDS[era.kind]
    start = Month.parse(era.first).start

    def value(name: str) -> object:
        if chance.random() < 0.08:
            return None
        if name in spelt:
            return chance.choice(chance.choice(list(spelt[name].values())))
        if name.endswith("_datetime"):
            return start + dt.timedelta(seconds=chance.randrange(2_600_000))
        if name == "store_and_fwd_flag":
            return chance.choice("NY")
        if name == "request_source":
            return chance.choice(("A", "HV0003", "HV0005"))
        number = str(kind.schema.field(name).type) == "int16"
        return chance.randrange(266) if number else round(chance.uniform(-80, 80), chance.choice((0, 2, 15)))

    return [[value(canonical_name(name, kind)) for name in era.header] for _ in range(count)]


def seeds(chance: random.Random, folder: Path) -> list[Seed]:
    """Intact files of every era, and real ones."""
    found = []
    for era in ERAS:
        rows = some_rows(era, chance, 40)
        names = [canonical_name(name, KINDS[era.kind]) for name in era.header]
        if era.publication == "csv":
            content = era_csv(era, rows, chance.choice(("\n", "\r\n")))
            found += [("csv", era.kind, Month.parse(era.first), content)]
            found += [("gzip", era.kind, Month.parse(era.first), gzip.compress(content))]
        else:
            content = era_parquet(era, names, rows, folder / "seed")
            found += [("parquet", era.kind, Month.parse(era.first), content)] * 2
            found.append(("zip", era.kind, Month.parse(era.first), zipped("trips.parquet", content)))
    for form, kind, month, content in [seed for seed in found if seed[0] == "csv"]:
        shaped = reshaped(content, chance)
        found += [(form, kind, month, shaped), ("zip", kind, month, zipped("trips.csv", shaped))]
    real = Path(os.environ.get("TAXI_TEST_DATA", "/nonexistent"))
    for path in sorted(path for path in real.glob("../exports/*") if path.suffix in (".csv", ".parquet")):
        found.append((path.suffix[1:], "yellow", Month(2019, 6), path.read_bytes()))
    for path in sorted(
        [
            *real.glob("yellow_csv_heads/*.csv"),
            *real.glob("yellow_parquet/*5rows.parquet"),
            *real.glob("green_full_months/*24-10.parquet"),
        ]
    ):
        form = "parquet" if path.suffix == ".parquet" else "csv"
        kind, _, month = path.stem.split("_", 2)
        found.append((form, kind, Month.parse(month[:7]), path.read_bytes()))
    return found


def zipped(name: str, content: bytes) -> bytes:
    """A zip archive of one file."""
    with zipfile.ZipFile(packed := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def unzipped(content: bytes) -> tuple[str, bytes]:
    """The one file of a zip archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (name,) = archive.namelist()
        return name, archive.read(name)


def reshaped(content: bytes, chance: random.Random) -> bytes:
    """A published CSV as another tool could have written it."""
    form = chance.choice(("%m/%d/%Y %I:%M:%S %p", "%d.%m.%Y %H:%M", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M"))

    def time_(found: re.Match[bytes]) -> bytes:
        return dt.datetime.fromisoformat(found[0].decode()).strftime(form).encode()

    content = re.sub(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", time_, content)
    content = content.replace(b",", chance.choice((b",", b";", b"\t")))
    return content if chance.random() < 0.7 else content.partition(b"\n")[2]


SETTINGS = [
    ReadOptions(),
    ReadOptions(date_order="mdy", zoned_times="wall_clock"),
    ReadOptions(date_order="dmy", zoned_times="convert", decimal_comma=True),
    ReadOptions("refuse", ignored=("e*",), aliases={"extra": "mta_tax"}),
]


def damage(content: bytes, chance: random.Random, start: int = 0) -> bytes:
    """Some of: bits flipped, bytes replaced, cut, doubled, moved, shortened."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8, 40))):
        if len(data) <= start:
            break
        at = chance.randrange(start, len(data))
        size = chance.choice((1, 1, 2, 4, 8, 64, 512))
        match chance.randrange(7):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at : at + size] = chance.randbytes(size)
            case 2:
                del data[at : at + size]
            case 3:
                data[at:at] = data[at : at + size]
            case 4:
                data[at:at] = chance.choice(TOKENS) * chance.choice((1, 1, 3))
            case 5:
                other = chance.randrange(start, len(data))
                data[at : at + size] = data[other : other + size]
            case 6 if chance.random() < 0.2:
                del data[at:]
    return bytes(data)


def expected_rows(form: str, content: bytes) -> int | None:
    """Lines of data in a plain CSV, None where they cannot be counted without reading it."""
    if form != "csv" or content.startswith((b"\x1f\x8b", b"PAR1")):
        return None
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    names = re.split(rb"[,;\t|]", lines[0])
    header = not any(is_time(name.decode("latin-1").strip(' "\r')) for name in names)
    return sum(1 for line in lines[header:] if line.rstrip(b"\r"))


def problem_with(path: Path, form: str, kind: str, month: Month, content: bytes, options: ReadOptions) -> str | None:
    """What the reader did wrong with a file, or None."""
    began = time.monotonic()
    rows = 0
    try:
        for batch in open_trips(path, KINDS[kind], month, options=options).batches:
            batch.validate(full=True)
            rows += batch.num_rows
            rejected = batch.filter(batch.column("reject_reason").is_valid())
            if set(rejected.column("reject_reason").to_pylist()) - REASONS.keys():
                return "an undocumented reason"
            texts = rejected.column("source_text").to_pylist() + rejected.column("reject_detail").to_pylist()
            if any(text is None or "\0" in text or text.encode() is None for text in texts):
                return "a text that cannot be stored"
            if rejected.select(KINDS[kind].schema.names).to_pylist() != [dict.fromkeys(KINDS[kind].schema.names)] * len(
                rejected
            ):
                return "an unreadable row with values"
    except PermanentError as error:
        sentence = str(error)
        if not sentence.startswith(f"{month}: {path} ") or "\n" in sentence or len(sentence) > 2500:
            return f"an unclear sentence: {sentence}"
        return "a hang" if time.monotonic() - began > SLOW else None
    lines = expected_rows(form, content)
    if lines is not None and rows != lines:
        return f"{rows} rows of {lines} lines"
    return "a hang" if time.monotonic() - began > SLOW else None


def work(files: list[Seed], folder: Path, until: float, seed: int, tell: Connection) -> None:
    """Damage and read until the time is up; what is read lies in `folder`, so that the parent finds it after a
    crash."""
    chance = random.Random(seed)
    while time.monotonic() < until:
        form, kind, month, intact = chance.choice(files)
        start = intact.find(b"\n") + 1 if form == "csv" and chance.random() < 0.7 else 0
        content = damage(intact, chance, start)
        if form == "zip" and chance.random() < 0.7:
            name, inside = unzipped(intact)
            content = zipped(name, damage(inside, chance))
        if form == "gzip" and chance.random() < 0.5:
            content = gzip.compress(damage(gzip.decompress(intact), chance))
        path = folder / f"input.{form}"
        path.write_bytes(content)
        try:
            problem = problem_with(path, form, kind, month, content, chance.choice(SETTINGS))
        except Exception:  # noqa: BLE001 - whatever else is raised is what is looked for
            problem = traceback.format_exc()
        tell.send((form, problem, content if problem else b""))
    tell.send(None)


def main(seconds: float, seed: int) -> int:
    """Fuzz, print what was found, return the number of problems."""
    context = get_context("fork")
    kept = Path(tempfile.mkdtemp(prefix="fuzz-reader-"))
    tried: Counter[str] = Counter()
    problems = 0
    files = seeds(random.Random(seed), kept)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        folder = Path(tempfile.mkdtemp(dir=kept))
        inbox, outbox = context.Pipe(duplex=False)
        child = context.Process(target=work, args=(files, folder, until, seed, outbox))
        child.start()
        outbox.close()
        try:
            while (report := inbox.recv()) is not None:
                form, problem, content = report
                tried[form] += 1
                if problem:
                    problems += 1
                    (kept / f"{problems}.{form}").write_bytes(content)
                    print(f"{kept / f'{problems}.{form}'}: {problem}", flush=True)
        except EOFError:
            child.join()
            problems += 1
            print(f"{folder}: the process ended with {child.exitcode} while it read what is left there", flush=True)
        child.join()
        seed += 1
    print(f"{sum(tried.values()):,} damaged files in {seconds:.0f} s ({dict(tried)}), {problems} problems")
    return problems


if __name__ == "__main__":
    sys.exit(min(1, main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32))))
