"""Google Cloud, as far as it can be tried without: emulators, the Cloud Run launcher's command, the checks without an engine."""

import json
import re
import sys
import urllib.request

from verification.server import MONTH
from verification.stack import IMAGE, PROJECT, REPOSITORY, Stack, free_port, run


def emulators(stack: Stack) -> str:
    """A month into Google's storage and BigQuery, emulated."""
    stack.profiles[:] = ["emulators"]
    stack.set(
        TAXI_EXECUTOR="in_process",
        TAXI_SAMPLE_ROWS="20000",  # `celery` has fewer, and a month that loses most of its rows is refused
        GCS_EMULATOR_PORT=str(free_port()),
        BIGQUERY_EMULATOR_PORT=str(port := free_port()),
        TAXI_BUCKET="gs://taxi",
        STORAGE_EMULATOR_HOST="http://gcs-emulator:4443",
        TAXI_BIGQUERY_PROJECT="local",
        TAXI_BIGQUERY_ENDPOINT="http://bigquery-emulator:9050",
    )
    stack.compose("build", "gcs-emulator", seconds=1800)
    stack.up()
    stack.finish(stack.launch(MONTH))
    query = {"query": "SELECT count(*) FROM ny_taxi.yellow_cab_data", "useLegacySql": False}
    url = f"http://127.0.0.1:{port}/bigquery/v2/projects/local/queries"
    request = urllib.request.Request(url, json.dumps(query).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        rows = int(json.load(answer)["rows"][0]["f"][0]["v"])
    assert rows == stack.rows()[MONTH], rows
    return f"{MONTH}: {rows:,} rows in BigQuery's emulator, from an object in Cloud Storage's"


def cloud_run(stack: Stack) -> str:
    """What the Cloud Run launcher asks for, run in the image as on Google Cloud (needs `emulators`)."""
    sys.path.insert(0, str(REPOSITORY))
    from taxi_assets_tests.deploy.test_launcher import EXECUTE, LAUNCH

    environment = {
        "DAGSTER_HOME": "/opt/taxi/deploy/gcp",
        "DAGSTER_POSTGRES_URL": f"postgresql+psycopg2://dagster:{stack.password}@postgres:5432/dagster",
        "DAGSTER_GCP_PROJECT": "p",
        "DAGSTER_GCP_REGION": "us-central1",
        "DAGSTER_MAX_RUNS": "7",
        "DAGSTER_LOGS_BUCKET": "taxi",
        "TAXI_POSTGRES_URL": f"postgresql://trips:{stack.password}@postgres:5432/trips",
        "TAXI_PROFILE": "gcp",
        "TAXI_HOME": "/tmp/taxi",
        **{name: value for name, value in stack.settings().items() if re.match("TAXI_(BU|BIG|SO|SA)|STORAGE", name)},
    }
    names = [word for name in environment for word in ("--env", name)]
    container = [
        "docker",
        "run",
        "--rm",
        "--read-only",
        "--tmpfs",
        "/tmp",
        "--network",
        f"{PROJECT}_default",
        *names,
        IMAGE,
    ]
    said = run(*container, "python", "-c", LAUNCH, "/opt/taxi/deploy/gcp/workspace.yaml", **environment)
    _, arguments, *_ = json.loads([line for line in said.splitlines() if line.startswith('["projects/')][-1])
    before = {each["runId"] for each in stack.runs(statuses=["SUCCESS"])}
    said = run(*container, "sh", "-c", "/opt/taxi/deploy/gcp/own-storage 2>&1", **environment)
    assert not said, said
    run(*container, "/opt/taxi/deploy/gcp/when-connected", "python", "-c", EXECUTE, *arguments, **environment)
    (ended,) = {each["runId"] for each in stack.runs(statuses=["SUCCESS"])} - before
    # A run that fails in Dagster ends its container with 0, and the alert looks for a word in what it says.
    said = run(*container, "python", "-c", LAUNCH, "/opt/taxi/deploy/gcp/workspace.yaml", **environment)
    _, failing, *_ = json.loads([line for line in said.splitlines() if line.startswith('["projects/')][-1])
    environment["TAXI_SOURCE"] = "/tmp/none/{month}.csv"
    said = run(*container, "sh", "-c", 'exec python -c "$0" "$@" 2>&1', EXECUTE, *failing, **environment)
    assert "RUN_FAILURE" in said, said[-1000:]
    return (
        f"{' '.join(arguments[:3])} ...: run {ended[:8]} succeeded; one without its source ended with 0 and RUN_FAILURE"
    )


def memory(stack: Stack) -> str:
    """Four million rows in 1 GiB, where all files are memory, more than on Cloud Run (needs `emulators`)."""
    # of 16 million the emulator of Cloud Storage cannot keep an upload in its own 512 MB
    rows, files = 4_000_000, ("/tmp", "/mnt/lake")
    environment = {
        "DAGSTER_HOME": "/tmp",
        "TAXI_HOME": "/tmp/taxi",
        "TAXI_LAKE": "/mnt/lake",
        "TAXI_POSTGRES_URL": f"postgresql://trips:{stack.password}@postgres:5432/trips",
        "TAXI_SAMPLE_ROWS": str(rows),
        **{name: stack.settings()[name] for name in ("TAXI_SOURCE", "TAXI_BUCKET", "STORAGE_EMULATOR_HOST")},
    }
    names = [word for name in environment for word in ("--env", name)]
    limits = ["--memory", "1g", "--memory-swap", "1g", "--read-only", *(f"--tmpfs={path}:mode=1777" for path in files)]
    assets = "raw_trips,clean_trips,rejected_trips,postgres_table,gcs_parquet,gcs_partitioned"
    load = f"dagster asset materialize -m taxi_assets.definitions --select {assets} --partition 2014-03-01"
    peak = "cat /sys/fs/cgroup/memory.peak /sys/fs/cgroup/memory/memory.max_usage_in_bytes 2>/dev/null || true"
    command = ["docker", "run", "--rm", "--network", f"{PROJECT}_default", *limits, *names, IMAGE]
    told = run(*command, "sh", "-c", f"{load} >&2 && {{ {peak}; }}", **environment)
    loaded = stack.rows()["2014-03"]
    assert loaded > 0.9 * rows, loaded
    return f"{rows:,} rows in 1 GiB, all files in memory; peak {int(told.split()[-1]) / 1e9:.2f} GB with the page cache"


def suite(_: Stack) -> str:
    """The checks that need no engine: compose file, image rules, workflow, Terraform."""
    done = run(sys.executable, "-m", "pytest", "-q", "-rs", "taxi_assets_tests/deploy")
    skipped = re.findall(r"SKIPPED \[(\d+)\] \S+ (.+)", done)
    return "; ".join([done.splitlines()[-1].strip("= "), *(f"skipped {n}: {why}" for n, why in skipped)])
