"""The cost of loading the code location: every code server, run, step and worker pays it first."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]

HEAVY = {
    *("pyarrow", "numpy", "pandas", "isal", "duckdb", "pgpq", "sqlalchemy", "requests", "google", "jinja2"),
    *("dagster_pandas", "dagster_celery"),
}


def test_the_definitions_do_not_import_libraries_that_only_steps_use():
    script = "import sys, taxi_assets.definitions; print(*{name.partition('.')[0] for name in sys.modules})"
    modules = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    assert "taxi_assets" in modules.split()
    assert HEAVY & set(modules.split()) == set()
