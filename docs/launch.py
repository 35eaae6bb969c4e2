"""Load months over Dagster's GraphQL API, with nothing but Python: the API trigger of docs/operations.md.

python docs/launch.py http://127.0.0.1:3000 2021-01              one month, by a run
python docs/launch.py http://127.0.0.1:3000 2019-01 2020-12      many months, by a backfill

It waits for the end, prints what became of it, and exits with 1 when something failed. Behind a login (IAP, a proxy), add
the header it wants to `ask`.
"""

import json
import sys
import time
import urllib.error
import urllib.request

JOB = "load_month"

LOCATION = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } jobs { name } } } } }"
ASSETS = "query($job: PipelineSelector!) { assetNodes(pipeline: $job) { assetKey { path } } }"
LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on Error { message }
  ... on RunConfigValidationInvalid { errors { message } } } }"""
BACKFILL = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on Error { message } } }"""
RUN = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } ... on Error { message } } }"
PROGRESS = """query($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status error { message } } ... on Error { message } } }"""


def ask(address, query, **variables):
    """Send a query and return its data; an error of the server is raised with its message."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{address}/graphql", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:  # a refused query comes with a status and a message
        answer = json.load(error)
    if "errors" in answer:
        raise RuntimeError(answer["errors"][0]["message"])
    return answer["data"]


def job_of(address):
    """Where the job is: the selector that launching it takes."""
    for repository in ask(address, LOCATION)["repositoriesOrError"]["nodes"]:
        if any(job["name"] == JOB for job in repository["jobs"]):
            return {"repositoryLocationName": repository["location"]["name"], "repositoryName": repository["name"]}
    raise RuntimeError(f"{address} has no job {JOB}.")


def load_month(address, month, started_by="docs/launch.py"):
    """Launch the month's run and return its id."""
    params = {
        "selector": {**job_of(address), "jobName": JOB},
        "executionMetadata": {
            "tags": [
                {"key": "dagster/partition", "value": f"{month}-01"},
                {"key": "taxi_assets/started_by", "value": started_by},
            ]
        },
        "runConfigData": {},
    }
    launched = ask(address, LAUNCH, params=params)["launchRun"]
    if launched["__typename"] != "LaunchRunSuccess":
        raise RuntimeError(launched.get("message") or launched["errors"])
    return launched["run"]["runId"]


def backfill(address, months, started_by="docs/launch.py"):
    """Launch a backfill of the months, a run each, and return its id."""
    job = {**job_of(address), "pipelineName": JOB}
    assets = [node["assetKey"] for node in ask(address, ASSETS, job=job)["assetNodes"]]
    params = {
        "assetSelection": assets,
        "partitionNames": [f"{month}-01" for month in months],
        "tags": [{"key": "taxi_assets/started_by", "value": started_by}],
        "title": f"{months[0]} to {months[-1]}",
    }
    launched = ask(address, BACKFILL, params=params)["launchPartitionBackfill"]
    if launched["__typename"] != "LaunchBackfillSuccess":
        raise RuntimeError(launched["message"])
    return launched["backfillId"]


def wait(look, every=2):
    """Wait for the status that `look` returns to be a final one, and return it."""
    while (status := look()) not in (
        "SUCCESS",
        "FAILURE",
        "CANCELED",
        "COMPLETED_SUCCESS",
        "COMPLETED_FAILED",
        "FAILED",
    ):
        time.sleep(every)
    return status


def months_between(first, last):
    """`2019-11`, `2020-01` -> 2019-11, 2019-12, 2020-01."""
    count = lambda month: int(month[:4]) * 12 + int(month[5:]) - 1  # noqa: E731
    return [f"{n // 12}-{n % 12 + 1:02d}" for n in range(count(first), count(last) + 1)]


def main(address, first, last=None):
    """Load the months and wait."""
    if last is None:
        run = load_month(address, first)
        print(f"{address}/runs/{run}", flush=True)
        status = wait(lambda: ask(address, RUN, id=run)["runOrError"]["status"])
    else:
        id_ = backfill(address, months_between(first, last))
        print(f"{address}/runs/b/{id_}", flush=True)
        status = wait(lambda: ask(address, PROGRESS, id=id_)["partitionBackfillOrError"]["status"])
    print(status)
    return 0 if status in ("SUCCESS", "COMPLETED_SUCCESS") else 1


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
