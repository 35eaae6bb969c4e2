"""The executor that TAXI_EXECUTOR names, and Celery's configuration for both sides: runs that submit steps, and workers.

dagster-celery is an optional dependency (the extra `deploy`, installed in the image), so it is imported where it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from taxi_assets.core.errors import PermanentError
from taxi_assets.settings import Settings

if TYPE_CHECKING:
    from celery import Celery


def executor(settings: Settings) -> dg.ExecutorDefinition:
    """Return the executor.

    Raises:
        PermanentError: TAXI_EXECUTOR=celery, and dagster-celery is not installed.
    """
    if settings.executor == "in_process":
        return dg.in_process_executor
    if settings.executor == "multiprocess":
        return dg.multiprocess_executor
    try:
        from dagster_celery import celery_executor
    except ImportError:
        raise PermanentError(
            "TAXI_EXECUTOR=celery needs dagster-celery, which is not installed: use the image of deploy/Dockerfile, or "
            "pip install --require-hashes --no-deps -r requirements-deploy.lock."
        ) from None
    # Not as run config, which the UI shows: the broker's URL contains its password.
    return celery_executor.configured(celery_config(settings), name="celery")


def celery_config(settings: Settings) -> dict[str, Any]:
    """Return dagster-celery's configuration.

    A step is acknowledged when it has finished, so that the step of a killed worker is delivered to another one: at once if
    the worker's parent process reports it, after `celery_redeliver_seconds` if its machine is down. A step may therefore run
    twice, which is safe: sinks replace a month atomically, and its writers hold a lock.
    """
    assert settings.celery_broker is not None  # validated by Settings
    backend = settings.celery_backend or settings.celery_broker
    return {
        "broker": _with_certificates(settings.celery_broker.get_secret_value()),
        "backend": _with_certificates(backend.get_secret_value()),
        "config_source": {
            "task_acks_late": True,
            "task_reject_on_worker_lost": True,
            "worker_deduplicate_successful_tasks": True,
            "worker_prefetch_multiplier": 1,  # any idle worker takes the next step
            "broker_connection_retry_on_startup": True,
            "result_expires": 86_400,  # seconds; a run reads the results of its steps within a second
            "broker_transport_options": {
                "visibility_timeout": settings.celery_redeliver_seconds,
                "unacked_restore_interval": 10,  # seconds between two searches for steps whose worker is lost
                "unacked_restore_throttle": 1,
            },
        },
    }


def _with_certificates(url: str) -> str:
    """Add to a rediss:// URL without `ssl_cert_reqs` that the certificate is verified; Celery requires the parameter."""
    if not url.startswith("rediss://") or "ssl_cert_reqs=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=CERT_REQUIRED"


def celery_app(settings: Settings) -> Celery:
    """Return the application of workers (`taxi_assets.worker`), which takes steps from the queue `dagster`."""
    from dagster_celery.executor import CeleryExecutor
    from dagster_celery.make_app import make_app
    from dagster_celery.tasks import create_task

    app = make_app(CeleryExecutor.for_cli(**celery_config(settings)).app_args())
    create_task(app)
    return app
