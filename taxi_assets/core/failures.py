"""The package's errors in Dagster's terms: one sentence in the UI, retried only when a retry could help."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import dagster as dg

from taxi_assets.core.errors import PermanentError, TransientError, disk_full

RETRY = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""For steps that talk to a server: three attempts within about half a minute."""


@contextmanager
def explained(what: str) -> Generator[None, None, None]:
    """Turn errors raised on purpose, and a full disk, into a `dagster.Failure` with their sentence.

    `what` names the asset and month for errors that cannot name them.
    """
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


def failure_sentence(event: dg.DagsterEvent) -> str:
    """The one sentence of a failed step: what was raised on purpose, else the innermost error's first line."""
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    while error and error.cause:
        error = error.cause
    lines = (error.message.strip() if error else "").splitlines()
    return lines[0] if lines else "failed"


def run_failures(result: dg.ExecuteInProcessResult) -> list[str]:
    """What a run that was executed here failed with: a sentence for each failed step; none when it succeeded."""
    failures = [f"{event.step_key}: {failure_sentence(event)}" for event in result.all_events if event.is_step_failure]
    if not result.success and not failures:
        failures = ["the run failed; see the Dagster UI (make dev)."]
    return failures
