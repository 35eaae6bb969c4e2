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


def suite(_: Stack) -> str:
    """The checks that need no engine: compose file, image rules, workflow, Terraform."""
    done = run(sys.executable, "-m", "pytest", "-q", "-rs", "taxi_assets_tests/deploy")
    skipped = re.findall(r"SKIPPED \[(\d+)\] \S+ (.+)", done)
    return "; ".join([done.splitlines()[-1].strip("= "), *(f"skipped {n}: {why}" for n, why in skipped)])
