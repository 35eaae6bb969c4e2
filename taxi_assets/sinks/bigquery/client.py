"""The BigQuery client and its errors: credentials, retries, and the translation of errors.

dagster-gcp's BigQueryResource is not used here: it has no endpoint option (for an emulator), and passes its
credentials through the process environment; `resource` has one for other projects.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import requests.exceptions
from google.api_core import exceptions
from google.api_core.retry import Retry
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
from google.cloud import bigquery
from google.cloud.bigquery.table import RowIterator

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.failures import report_retry

T = TypeVar("T")

REQUEST_SECONDS = 60.0
"""How long one HTTP request may take before it counts as failed."""

TRANSIENT_REASONS = frozenset(
    f"{prefix}{reason}"
    for prefix in ("", "job")
    for reason in ("backendError", "BackendError", "internalError", "InternalError", "rateLimitExceeded",
                   "RateLimitExceeded", "badGateway", "tableUnavailable", "timeout")
)  # fmt: skip
"""Reasons in a BigQuery error after which a retry may succeed (BigQuery error table; the job… ones are a job's own)."""

RATE_LIMITED = frozenset(
    f"{prefix}{reason}" for prefix in ("", "job") for reason in ("rateLimitExceeded", "RateLimitExceeded")
)
"""Reasons of a job that was not run, because other jobs had changed its table too often."""

REMEDIES = {
    "accessDenied": "give the account roles/bigquery.dataEditor on the dataset, roles/bigquery.jobUser on the project "
    "and roles/storage.objectViewer on the bucket",
    "invalid": "if that is about the object's rows or columns, materialize clean_trips and gcs_parquet again",
    "notFound": "check that the project and the object exist, and that bucket and dataset are in the same location "
    "(TAXI_BIGQUERY_LOCATION)",
    "quotaExceeded": "wait for the project's quota to renew, or ask for a larger one",
    "bytesBilledLimitExceeded": "raise the IO manager's maximum_bytes_billed if the cost is meant",
    "billingNotEnabled": "enable billing for the project",
}
"""What to do, by BigQuery's error reason."""


def client(
    project: str | None, location: str | None, key_file: str | None, api_endpoint: str | None
) -> bigquery.Client:
    """A client with the key file's account, else Application Default Credentials; anonymous at an emulator's endpoint.

    Raises:
        PermanentError: there are no credentials, or the key file cannot be used.
    """
    try:
        if api_endpoint:
            return bigquery.Client(
                project, AnonymousCredentials(), location=location, client_options={"api_endpoint": api_endpoint}
            )
        if key_file:
            return bigquery.Client.from_service_account_json(key_file, project=project, location=location)
        return bigquery.Client(project, location=location)
    except DefaultCredentialsError as error:
        if key_file:
            raise _unusable(key_file, error) from None
        raise PermanentError(
            "There are no Google Cloud credentials: run `gcloud auth application-default login`, or name a key file in "
            "TAXI_GCP_KEY_FILE."
        ) from error
    except (OSError, ValueError) as error:
        raise _unusable(key_file, error) from None


def _unusable(key_file: str | None, error: Exception) -> PermanentError:
    """Without the error's text, which could quote the key."""
    return PermanentError(
        f"{key_file} is not readable as a service account key ({type(error).__name__}): check TAXI_GCP_KEY_FILE."
    )


def retry(seconds: float) -> Retry:
    """Retry requests that failed with a transient error, with exponential back-off and jitter, for at most `seconds`."""
    return Retry(predicate=is_transient, initial=0.5, maximum=15.0, multiplier=2.0, timeout=seconds)


def select(
    client: bigquery.Client,
    query: str,
    parameters: Sequence[bigquery.ScalarQueryParameter],
    maximum_bytes_billed: int,
    retry: Retry,
) -> RowIterator:
    """Run a query that only reads, with one request if its answer is small.

    Not for what writes: the request may be repeated after a failure, under the same id.
    """
    config = bigquery.QueryJobConfig(query_parameters=parameters, maximum_bytes_billed=maximum_bytes_billed)
    # without job_retry, which would repeat it for minutes beyond `retry`; Google's annotation lacks the None of its code
    job_retry: Any = None
    return client.query_and_wait(
        query, job_config=config, retry=retry, job_retry=job_retry, api_timeout=REQUEST_SECONDS
    )


def find_table(client: bigquery.Client, name: str, retry: Retry) -> bigquery.Table | None:
    """Return the table or view, `project.dataset.name`; None if it or its dataset is missing."""
    try:
        return client.get_table(name, retry=retry, timeout=REQUEST_SECONDS)
    except exceptions.NotFound:
        return None


def resubmitted(run_job: Callable[[], T], what: str, longest_wait: float) -> T:
    """Return what `run_job` returns: it submits a job and waits for it, and again while the job fails for the rate of its table.

    BigQuery allows a table five load jobs in ten seconds ("too many table update operations") and fails the others; with
    twenty runs at a time that takes longer than the retries of a step. The waits double up to `longest_wait` seconds, with
    jitter, or the jobs would meet again.
    """
    waits = [longest_wait * part for part in (1 / 6, 1 / 3, 2 / 3, 1, 1)]
    for attempt, wait in enumerate(waits, 2):
        try:
            return run_job()
        except exceptions.GoogleAPICallError as error:
            if reason_of(error) not in RATE_LIMITED:
                raise
            seconds = wait * random.uniform(0.75, 1.25)
            report_retry(f"{what}: BigQuery refused ({_message(error)})", attempt, len(waits) + 1, seconds)
        time.sleep(seconds)
    return run_job()


def wait_for(job: bigquery.LoadJob, what: str, target: str, retried: str, retry: Retry, seconds: float) -> None:
    """Wait for the end of a load job; `what` is loaded into `target`, and `retried` says what running it again does.

    Raises:
        TransientError: it still runs after `seconds`. Errors of the job are raised as they are.
    """
    import concurrent.futures

    try:
        job.result(retry=retry, timeout=seconds)
    except concurrent.futures.TimeoutError:
        raise TransientError(
            f"{what}: load job {job.job_id} into {target} still runs after {seconds:.0f} s; {retried}."
        ) from None


def is_transient(error: BaseException) -> bool:
    """Whether a retry may succeed: overload, a fault of the service's own, a broken connection."""
    if isinstance(error, exceptions.RetryError):
        return True
    if isinstance(error, requests.exceptions.SSLError):  # a wrong certificate stays wrong
        return False
    if reason := reason_of(error):
        return reason in TRANSIENT_REASONS
    return isinstance(
        error,
        (
            ConnectionError,
            exceptions.TooManyRequests,
            exceptions.ServerError,
            requests.exceptions.ChunkedEncodingError,
            requests.exceptions.ConnectionError,
            requests.exceptions.Timeout,
            TransportError,
        ),
    )


def reason_of(error: BaseException) -> str | None:
    """BigQuery's own name for what went wrong (`invalid`, `accessDenied`), where the error carries one."""
    errors = getattr(error, "errors", None) or [{}]
    return errors[0].get("reason") if isinstance(errors[0], dict) else None


@contextmanager
def explained(what: str) -> Generator[None]:
    """Translate errors of BigQuery and the network into the package's errors. `what` names the month, the table and the object.

    Raises:
        TransientError, PermanentError: one line with what failed, the month, the cause and what to do.
    """
    try:
        yield
    except (exceptions.GoogleAPIError, requests.exceptions.RequestException, ConnectionError, TransportError) as error:
        cause = error.cause if isinstance(error, exceptions.RetryError) and error.cause else error
        message = _message(cause)
        if is_transient(error) or is_transient(cause):
            raise TransientError(
                f"{what}: BigQuery was unavailable or overloaded ({message}); run it again."
            ) from error
        remedy = REMEDIES.get(reason_of(cause) or "", "fix the cause, then materialize again")
        raise PermanentError(f"{what}: BigQuery refused ({message}); {remedy}.") from error
    except GoogleAuthError as error:
        raise PermanentError(
            f"{what}: Google refused the credentials ({_message(error)}); renew them with `gcloud auth "
            "application-default login`, or check TAXI_GCP_KEY_FILE."
        ) from error


def _message(error: BaseException) -> str:
    """The service's message on one line, without the request."""
    first = (getattr(error, "errors", None) or [{}])[0]
    reported = first.get("message") if isinstance(first, dict) else None
    text = reported or getattr(error, "message", None) or str(error)
    return " ".join(str(text).split())[:400].rstrip(".")
