"""What loading the code location costs: every code server, run, step and worker pays it before it does anything."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]

HEAVY = {
    *("pyarrow", "numpy", "pandas", "isal", "duckdb", "pgpq", "psycopg", "sqlalchemy", "requests", "google", "jinja2"),
    *("dagster_pandas", "dagster_celery"),
}


def test_the_definitions_leave_heavy_libraries_to_the_steps_that_use_them():
    script = "import sys, taxi_assets.definitions; print(*{name.partition('.')[0] for name in sys.modules})"
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    assert "taxi_assets" in told.split()
    assert HEAVY & set(told.split()) == set()
