"""The package's errors in Dagster's terms: one sentence in the UI, retried only when a retry could help."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager

import dagster as dg

from taxi_assets.core.errors import PermanentError, TransientError, disk_full

RETRY = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""For steps that talk to a server: three attempts within about half a minute."""


@contextmanager
def explained(what: str) -> Generator[None, None, None]:
    """Turn errors raised on purpose, and a full disk in `what`, into a `dagster.Failure` with their sentence."""
    try:
        yield
    except TransientError as error:
        raise dg.Failure(str(error)) from error
    except PermanentError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except OSError as error:  # pyarrow's I/O errors are OSErrors too
        if not disk_full(error):
            raise
        where = f" ({error.filename})" if error.filename else ""
        raise dg.Failure(
            f"{what}: the disk is full{where}; free some space, or set TAXI_HOME to a larger disk, and run the month again.",
            allow_retries=False,
        ) from error


def report_retry(failure: object, attempt: int, attempts: int, seconds: float) -> None:
    """Warn, in the log of the run or on standard error, that an operation failed and attempt `attempt` begins in `seconds`."""
    log = dg.get_dagster_logger("taxi_assets")
    log.warning(f"{str(failure).rstrip('.')}; attempt {attempt} of {attempts} in {max(1, round(seconds))} s.")


def failure_sentence(event: dg.DagsterEvent) -> str:
    """What a step that failed or is to be retried raised on purpose, else the innermost error's first line."""
    data = event.step_retry_data if event.is_step_up_for_retry else event.step_failure_data
    described = getattr(data, "user_failure_data", None)
    if described and described.description:
        return described.description
    error = data.error
    while error and error.cause:
        error = error.cause
    lines = re.sub(r"^(?:dagster|taxi_assets)\.[\w.]+: ", "", error.message.strip() if error else "").splitlines()
    if len(lines) > 1 and lines[0].endswith(":"):
        return f"{lines[0]} {lines[1].strip()}"
    return lines[0] if lines else "failed"


def run_failures(result: dg.ExecuteInProcessResult) -> list[str]:
    """Return a sentence for each failed step of a run that was executed here, or for each blocking check that failed in it."""
    checks: dict[str, list[str]] = {}
    for event in result.all_events:
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if check.blocking and not check.passed:
                sentence = check.description or f"the check {check.check_name} failed"
                checks.setdefault(event.step_key or "", []).append(f"{check.asset_key.to_user_string()}: {sentence}")
    failures = [
        failure
        for event in result.all_events
        if event.is_step_failure
        for failure in checks.get(event.step_key or "", [f"{event.step_key}: {failure_sentence(event)}"])
    ]
    if not result.success and not failures:
        failures = ["the run failed; see the Dagster UI (make dev)."]
    return failures
