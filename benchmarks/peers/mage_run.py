"""Runs pipelines of the Mage project beside this file, as its command line does: `mage_run.py PIPELINE...`.

Stand-alone: it runs in Mage's environment, without this package.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

project = Path(os.environ["BENCH_SCRATCH"]) / "mage"  # a copy, as Mage writes into its project
shutil.copytree(Path(__file__).with_name("mage"), project, dirs_exist_ok=True)
data = Path(os.environ["BENCH_SCRATCH"]) / "mage_data"
shutil.rmtree(data, ignore_errors=True)  # it keeps every block's output of every run
env = {
    **os.environ,
    "MAGE_DATA_DIR": str(data),
    "BENCH_BUCKET": os.environ["BENCH_SCRATCH"] + "/mage_bucket",
    "BENCH_WAREHOUSE": os.environ["BENCH_SCRATCH"] + "/mage.duckdb",
}
for pipeline in sys.argv[1:]:
    subprocess.run([Path(sys.executable).with_name("mage"), "run", str(project), pipeline], env=env, check=True)
