"""TAXI_EXECUTOR: which executor a run gets, and what Celery needs before it works."""

import sys

import dagster as dg
import pytest
from pydantic import ValidationError

from taxi_assets.core.errors import PermanentError
from taxi_assets.executors import celery_app, celery_config, executor
from taxi_assets.settings import Settings, explain

BROKER, DATABASE = "redis://:hush@broker:6379/0", "postgresql://trips:hush@db/trips"


@dg.job
def an_op_job():
    dg.op(name="nothing")(lambda: None)()


def celery_settings(**more) -> Settings:
    return Settings(executor="celery", celery_broker=BROKER, postgres_url=DATABASE, **more)


@pytest.mark.parametrize(
    ("name", "expected"), [("in_process", dg.in_process_executor), ("multiprocess", dg.multiprocess_executor)]
)
def test_without_celery_the_executors_are_dagsters_own(name, expected):
    assert executor(Settings(executor=name)) is expected


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({}, "TAXI_CELERY_BROKER, TAXI_POSTGRES_URL"),
        ({"celery_broker": BROKER}, "needs TAXI_POSTGRES_URL"),
        ({"postgres_url": DATABASE}, "needs TAXI_CELERY_BROKER"),
    ],
)
def test_celery_requires_a_broker_and_a_server_that_all_workers_can_reach(settings, missing):
    with pytest.raises(ValidationError) as error:
        Settings(executor="celery", **settings)
    sentence = explain(error.value)
    assert missing in sentence
    assert "the embedded one serves one machine only" in sentence
    assert "hush" not in sentence


def test_without_dagster_celery_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "dagster_celery", None)
    with pytest.raises(PermanentError, match=r"dagster-celery, which is not installed: .*requirements-deploy.lock"):
        executor(celery_settings())


def test_a_step_is_acknowledged_when_it_has_finished_so_that_another_worker_takes_over_a_killed_ones():
    config = celery_config(celery_settings(celery_redeliver_seconds=77))["config_source"]
    assert config["task_acks_late"] is True
    assert config["task_reject_on_worker_lost"] is True
    assert config["worker_prefetch_multiplier"] == 1
    assert config["broker_transport_options"]["visibility_timeout"] == 77


def test_results_are_stored_in_the_broker_unless_a_backend_is_set():
    assert celery_config(celery_settings())["backend"] == BROKER
    assert celery_config(celery_settings(celery_backend="redis://other/1"))["backend"] == "redis://other/1"


@pytest.mark.parametrize(
    ("url", "configured"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("rediss://host:6379/0", "rediss://host:6379/0?ssl_cert_reqs=CERT_REQUIRED"),
        ("rediss://host/0?ssl_ca_certs=/ca.pem", "rediss://host/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=CERT_REQUIRED"),
        ("rediss://host/0?ssl_cert_reqs=CERT_NONE", "rediss://host/0?ssl_cert_reqs=CERT_NONE"),
    ],
)
def test_the_certificate_of_a_redis_server_is_verified_unless_the_url_says_otherwise(url, configured):
    config = celery_config(Settings(executor="celery", celery_broker=url, postgres_url=DATABASE))
    assert (config["broker"], config["backend"]) == (configured, configured)


def test_runs_and_workers_agree_on_broker_and_queue_and_the_job_snapshot_has_no_password():
    pytest.importorskip("dagster_celery", reason="dagster-celery is not installed (requirements-deploy.lock)")
    settings = celery_settings()
    definition = executor(settings)
    assert definition.name == "celery"
    job = dg.Definitions(jobs=[an_op_job], executor=definition).resolve_job_def("an_op_job")
    assert job.executor_def.name == "celery"
    assert "hush" not in dg.serialize_value(job.get_job_snapshot())  # the serialized job for webserver and database
    app = celery_app(settings)
    assert app.conf.broker_url == BROKER
    assert app.conf.task_acks_late is True
    assert [queue.name for queue in app.conf.task_queues] == ["dagster"]
    assert "execute_plan" in app.tasks
