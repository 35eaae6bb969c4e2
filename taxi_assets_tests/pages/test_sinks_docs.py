"""docs/sinks.md does what it says, in a project of its own, and imports nothing of taxis."""

import os
import re
import subprocess
import sys
from pathlib import Path

from taxi_assets_tests.processes import REPOSITORY

PAGE = REPOSITORY / "docs" / "sinks.md"
IMPORTED = "import sys, shop.definitions; print(*sorted(m for m in sys.modules if m.startswith('taxi_assets.')))"


def test_the_example_runs_in_a_project_of_its_own_and_imports_nothing_of_taxis(tmp_path: Path, postgres_url: str):
    module, example = re.findall(r"^```python\n(.+?)^```", PAGE.read_text(), re.M | re.S)
    lines = [
        line for line in module.splitlines() if line.strip() and not line.startswith(('"""', "#", "import", "from"))
    ]
    assert len(lines) <= 30
    file = re.match(r"# (\S+)\n", module)[1]
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(module)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TAXI_", "DAGSTER_"))}
    environment = {**kept, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}", "SHOP_DATABASE": postgres_url}

    def run(code: str) -> str:
        command = [sys.executable, "-W", "ignore", "-c", code]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    modules = run(IMPORTED).split()
    assert {name.split(".")[1] for name in modules} == {"core", "sinks"}
    run(example)
