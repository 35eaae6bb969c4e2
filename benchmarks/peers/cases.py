"""The peers that are installed, as cases."""

from __future__ import annotations

from pathlib import Path

from benchmarks.measure import Case
from benchmarks.peers.install import python

HERE = Path(__file__).resolve().parent
PEERS = {
    "mage_api_to_postgres": ("mage", "mage_run.py", "api_to_postgres",
                             "Mage 0.9.80: the original's pipeline, its loader, transformer and Mage's exporter."),
    "mage_three_pipelines": ("mage", "mage_run.py", "api_to_postgres api_to_gcs gcs_to_bigquery",
                             "Mage 0.9.80: the original's three pipelines; a directory and DuckDB in place of Google's."),
    "dlt_api_to_postgres": ("dlt", "dlt_run.py", "", "dlt 1.31 with Arrow and ADBC."),
    "pandas_api_to_postgres": ("pandas", "pandas_run.py", "", "The original's blocks in plain pandas, COPY csv."),
}  # fmt: skip


def cases(folder: Path) -> list[Case]:
    """Those whose environment is there."""
    return [
        Case(name, what, (python(folder, peer), HERE / script, *arguments.split()))
        for name, (peer, script, arguments, what) in PEERS.items()
        if (folder / peer / ".ready").exists()
    ]
