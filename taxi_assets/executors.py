"""The executor that TAXI_EXECUTOR names, and how Celery is set up on both ends: runs that submit steps, workers that take them.

dagster-celery is an extra (`pip install 'taxi-assets[deploy]'`, in the image it is there), so it is imported where it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from taxi_assets.core.errors import PermanentError
from taxi_assets.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

HEARTBEAT_SECONDS = 10
"""Seconds between two looks for steps whose worker vanished."""


def executor(settings: Settings) -> dg.ExecutorDefinition:
    """Dagster's executor.

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
    # Given here and not as run config, which the UI shows: the broker's address holds its password.
    return celery_executor.configured(celery_config(settings), name="celery")


def celery_config(settings: Settings) -> dict[str, Any]:
    """dagster-celery's configuration.

    A step is taken off the queue when it is done, not when it is begun, so that one whose worker is killed is done by
    another: at once when the worker itself can say so, after `celery_redeliver_seconds` when its machine is gone. A step
    may therefore be begun twice, which a month bears: its sinks replace it whole, and two writers take turns.
    """
    assert settings.celery_broker is not None  # the settings insist on it
    backend = settings.celery_backend or settings.celery_broker
    return {
        "broker": _with_certificates(settings.celery_broker.get_secret_value()),
        "backend": _with_certificates(backend.get_secret_value()),
        "config_source": {
            "task_acks_late": True,
            "task_reject_on_worker_lost": True,
            "worker_deduplicate_successful_tasks": True,
            "worker_prefetch_multiplier": 1,  # a waiting step is any worker's
            "broker_connection_retry_on_startup": True,
            "result_expires": 86_400,  # seconds; a run reads its steps' results within a second
            "broker_transport_options": {
                "visibility_timeout": settings.celery_redeliver_seconds,
                "unacked_restore_interval": HEARTBEAT_SECONDS,
                "unacked_restore_throttle": 1,
            },
        },
    }


def _with_certificates(url: str) -> str:
    """The address, told to check the server's certificate if it is Redis by TLS and says nothing of it (Celery insists)."""
    if not url.startswith("rediss://") or "ssl_cert_reqs=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=CERT_REQUIRED"


def celery_app(settings: Settings) -> Celery:
    """The application that workers run (`taxi_assets.worker`): it takes steps from the queue `dagster`."""
    from dagster_celery.executor import CeleryExecutor
    from dagster_celery.make_app import make_app
    from dagster_celery.tasks import create_task

    app = make_app(CeleryExecutor.for_cli(**celery_config(settings)).app_args())
    create_task(app)
    return app
