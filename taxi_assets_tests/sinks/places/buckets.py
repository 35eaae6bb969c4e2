"""Buckets as the contract sees them: directories, and Google Cloud Storage over the wire, for the three bucket sinks."""

from __future__ import annotations

import json
import random
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from threading import Event
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import YELLOW
from taxi_assets_tests.sinks.places.base import Contents, Place, Servers, contents, disturbed
from taxi_assets_tests.sinks.places.managers import on_the_first
from taxi_assets_tests.sinks.places.small_disk import full, small_disk


class ObjectsPlace(Place):
    """A bucket: a directory, on a small disk where one may be had, or one of Google Cloud Storage over the wire."""

    def prepare(self, servers: Servers, stack: ExitStack) -> None:
        self.change = on_the_first if self.name.endswith("daily") else self.change
        self.records_manifests = not self.name.endswith("daily")
        self.gcs = servers.gcs if self.name.startswith("gcs-") else None
        if self.gcs:
            self.where = f"gs://{self.gcs.new_bucket()}"
            self.environment = {"STORAGE_EMULATOR_HOST": self.gcs.url}
            self.faults = {"503s and resets": self._disturb, "server gone": self._gone}
            return
        if disk := small_disk(self.folder, stack):
            self.home, self.faults = disk, {"disk full": lambda chance, seconds: full(disk, chance)}
        self.where = str(self.home / "bucket")

    def held(self, month: Month) -> Contents | None:
        prefix = {"object": f"nyc/yellow_tripdata_{month}", "days": f"nyc/yellow_by_day/tpep_pickup_date={month}-"}
        start = prefix.get(self.name.removeprefix("gcs-"), f"{month.year}/{month.month:02d}/01/")
        found = {name: self._table(name) for name in self._names() if name.startswith(start)}
        for name, table in found.items():
            if day := name.partition("tpep_pickup_date=")[2][:10]:
                assert set(table[YELLOW.pickup].cast(pa.date32()).cast(pa.string()).unique().to_pylist()) <= {day}, name
        return contents(pa.concat_tables(found.values())) if found else None

    def look(self, month: Month) -> Contents | None:
        if self.name.endswith("days"):  # who lists the folders sees each day old or new: `test_day_folders`
            return contents(self.sink.read(YELLOW.table, month).to_arrow())
        return self.held(month)

    def settle(self, month: Month) -> None:
        if self.name.endswith("days"):  # the next look through the sink finishes what a killed writer has committed
            self.sink.measure(YELLOW.table, month)

    def extra(self) -> list[str]:
        hidden = Path(self.where, ".bucket")
        left = [path.name for path in hidden.iterdir() if path.name != "lock"] if not self.gcs else []
        return left + [name for name in self._names() if not name.endswith(".parquet")]

    def _names(self) -> list[str]:
        if not self.gcs:
            root = Path(self.where)
            files = (path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file())
            return [str(path) for path in files if not path.parts[0].startswith(".")]
        return [item["name"] for item in json.loads(self._api("?maxResults=1000")).get("items", [])]

    def _table(self, name: str) -> pa.Table:
        content = self._api(f"/{quote(name, safe='')}?alt=media") if self.gcs else Path(self.where, name).read_bytes()
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            return file.read().replace_schema_metadata(None)

    def _api(self, what: str) -> bytes:
        """Past the gate: the one who judges is not disturbed."""
        status, answer = self.gcs.call("GET", f"/storage/v1/b/{self.where.removeprefix('gs://')}/o{what}")
        assert status == 200, (what, status)
        return answer

    def _disturb(self, chance: random.Random, seconds: float) -> AbstractContextManager[Event]:
        """Busy answers, resets, and answers lost after the work was done."""
        return disturbed(self.gcs, lambda _: chance.choice(["503", "reset", "lost"]) if chance.random() < 0.2 else None)

    def _gone(self, chance: random.Random, seconds: float) -> AbstractContextManager[Event]:
        ends = time.monotonic() + chance.uniform(0, seconds)
        return disturbed(self.gcs, lambda _: "reset" if time.monotonic() > ends else None)
