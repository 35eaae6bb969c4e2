"""Load months over Dagster's GraphQL API, with nothing but Python: the API trigger of docs/operations.md.

python docs/launch.py http://127.0.0.1:3000 2021-01              one month, by a run
python docs/launch.py http://127.0.0.1:3000 2019-01 2020-12      many months, by a backfill

It waits for the end, prints the result with the reason of each failure, and exits with 1 if something failed, 2 if it was
called wrongly. Behind a login (IAP, a proxy), add the required header to `query`.
"""

import json
import re
import sys
import time
import urllib.error
import urllib.request

JOB = "load_month"

LOCATION = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } jobs { name } } } } }"
ASSETS = "query($job: PipelineSelector!) { assetNodes(pipeline: $job) { assetKey { path } partitionKeys } }"
LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on Error { message }
  ... on RunConfigValidationInvalid { errors { message } } } }"""
BACKFILL = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on Error { message } } }"""
RUN = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } ... on Error { message } } }"
PROGRESS = """query($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status error { message } } ... on Error { message } } }"""
FAILED_RUNS = """query($filter: RunsFilter!) { runsOrError(filter: $filter) {
  ... on Runs { results { runId } } ... on Error { message } } }"""
FAILURES = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events { __typename
  ... on ExecutionStepFailureEvent { stepKey failureMetadata { description } error { message errorChain { error { message } } } }
  ... on AssetCheckEvaluationEvent { evaluation { success severity checkName description } } } } } }"""
DAEMONS = "{ instance { daemonHealth { allDaemonStatuses { daemonType healthy } } } }"
DAEMON_SECONDS = 60
"""How long a run may be queued, or a backfill requested, while the daemon that begins it does not run."""
FINAL = ("SUCCESS", "FAILURE", "CANCELED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED")


class Refused(Exception):
    """The server cannot be reached or refuses; the text is for the user."""


def query(address, text, **variables):
    """Send a query and return its data.

    Raises:
        Refused: the server cannot be reached, or reports an error.
    """
    body = json.dumps({"query": text, "variables": variables}).encode()
    request = urllib.request.Request(f"{address}/graphql", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:  # a refused query comes with a status and a message
        try:
            answer = json.load(error)
        except ValueError:
            raise Refused(f"{address} answers {error.code} {error.reason}; is it a Dagster UI?") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Refused(
            f"{address} cannot be reached ({reason}); start the UI (make dev) or correct the address."
        ) from None
    if "errors" in answer:
        raise Refused(answer["errors"][0]["message"])
    return answer["data"]


def job_of(address):
    """Return the selector of the job."""
    for repository in query(address, LOCATION)["repositoriesOrError"]["nodes"]:
        if any(job["name"] == JOB for job in repository["jobs"]):
            return {"repositoryLocationName": repository["location"]["name"], "repositoryName": repository["name"]}
    raise Refused(f"{address} has no job {JOB}.")


def assets_of(address, job, months):
    """Return the assets of a job, given by its selector, that have months, after checking that these are partitions of them.

    Raises:
        Refused: a month is none.
    """
    selector = {**job, "pipelineName": JOB}
    nodes = [node for node in query(address, ASSETS, job=selector)["assetNodes"] if node["partitionKeys"]]
    keys = nodes[0]["partitionKeys"]
    for month in months:
        if f"{month}-01" not in keys:
            raise Refused(f"{month} is not a partition of {JOB}: its months run from {keys[0][:7]} to {keys[-1][:7]}.")
    return [node["assetKey"] for node in nodes]


def load_month(address, month, started_by="docs/launch.py"):
    """Launch the month's run and return its id."""
    job = job_of(address)
    assets_of(address, job, [month])
    params = {
        "selector": {**job, "jobName": JOB},
        "executionMetadata": {
            "tags": [
                {"key": "dagster/partition", "value": f"{month}-01"},
                {"key": "taxi_assets/started_by", "value": started_by},
            ]
        },
        "runConfigData": {},
    }
    launched = query(address, LAUNCH, params=params)["launchRun"]
    if launched["__typename"] != "LaunchRunSuccess":
        raise Refused(launched.get("message") or launched["errors"][0]["message"])
    return launched["run"]["runId"]


def backfill(address, months, started_by="docs/launch.py"):
    """Launch a backfill of the months, a run each, and return its id."""
    params = {
        "assetSelection": assets_of(address, job_of(address), months),
        "partitionNames": [f"{month}-01" for month in months],
        "tags": [{"key": "taxi_assets/started_by", "value": started_by}],
        "title": f"{months[0]} to {months[-1]}",
    }
    launched = query(address, BACKFILL, params=params)["launchPartitionBackfill"]
    if launched["__typename"] != "LaunchBackfillSuccess":
        raise Refused(launched["message"])
    return launched["backfillId"]


def wait(address, daemon, status, every=2):
    """Wait until `status` returns a final status, and return it.

    Raises:
        Refused: the work is not begun, because the daemon of this type does not run.
    """
    since = time.monotonic()
    while (now := status()) not in FINAL:
        if now not in ("QUEUED", "REQUESTED") or _is_healthy(address, daemon):
            since = time.monotonic()
        elif time.monotonic() - since > DAEMON_SECONDS:
            raise Refused(
                "It is in the queue, and no daemon takes it from there: start one: make dev, or dagster-daemon run."
            )
        time.sleep(every)
    return now


def _is_healthy(address, daemon):
    daemons = query(address, DAEMONS)["instance"]["daemonHealth"]["allDaemonStatuses"]
    return any(each["daemonType"] == daemon and each["healthy"] for each in daemons)


def failures(address, run):
    """Return a sentence for each failed step or blocking check of a run."""
    found, checks = [], []
    for event in query(address, FAILURES, id=run)["logsForRun"]["events"]:
        if event["__typename"] == "ExecutionStepFailureEvent":
            error = event["error"] or {"message": "failed", "errorChain": []}
            innermost = [error, *(link["error"] for link in error["errorChain"])][-1]
            described = (event["failureMetadata"] or {}).get("description")
            found.append(f"{event['stepKey']}: {described or innermost['message'].strip().splitlines()[0]}")
        elif event["__typename"] == "AssetCheckEvaluationEvent":
            check = event["evaluation"]
            if not check["success"] and check["severity"] == "ERROR":
                checks.append(f"{check['checkName']}: {check['description']}")
    return checks or found


def months_between(first, last):
    """`2019-11`, `2020-01` -> 2019-11, 2019-12, 2020-01."""
    count = lambda month: int(month[:4]) * 12 + int(month[5:]) - 1  # noqa: E731
    return [f"{n // 12}-{n % 12 + 1:02d}" for n in range(count(first), count(last) + 1)]


def main(address, first, last=None):
    """Load the months and wait; return the exit code."""
    for month in (first, last or first):
        if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
            print(f"{month} is not a month: write it as YYYY-MM, for example 2021-01.", file=sys.stderr)
            return 2
    if last and last < first:
        print(f"{first} is after {last}; give the earlier month first.", file=sys.stderr)
        return 2
    try:
        if last is None:
            run = load_month(address, first)
            print(f"{address}/runs/{run}", flush=True)
            status = wait(
                address, "QUEUED_RUN_COORDINATOR", lambda: query(address, RUN, id=run)["runOrError"]["status"]
            )
            failed = [run]
        else:
            id_ = backfill(address, months_between(first, last))
            print(f"{address}/runs/b/{id_}", flush=True)
            status = wait(
                address, "BACKFILL", lambda: query(address, PROGRESS, id=id_)["partitionBackfillOrError"]["status"]
            )
            of_backfill = {"statuses": ["FAILURE"], "tags": [{"key": "dagster/backfill", "value": id_}]}
            runs = query(address, FAILED_RUNS, filter=of_backfill)["runsOrError"]["results"]
            failed = [run["runId"] for run in runs]
        print(status)
        if status in ("SUCCESS", "COMPLETED_SUCCESS"):
            return 0
        if not failed:
            print("Not every month was loaded; the log of its run says why: not published yet?", file=sys.stderr)
        for each in failed:
            print(*failures(address, each), sep="\n", file=sys.stderr)
    except Refused as error:
        print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
