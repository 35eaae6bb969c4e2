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
    ("given", "named"),
    [
        ({}, "TAXI_CELERY_BROKER, TAXI_POSTGRES_URL"),
        ({"celery_broker": BROKER}, "needs TAXI_POSTGRES_URL"),
        ({"postgres_url": DATABASE}, "needs TAXI_CELERY_BROKER"),
    ],
)
def test_celery_insists_on_a_broker_and_on_a_server_that_all_workers_reach(given, named):
    with pytest.raises(ValidationError) as error:
        Settings(executor="celery", **given)
    sentence = explain(error.value)
    assert named in sentence
    assert "the embedded one serves one machine" in sentence
    assert "hush" not in sentence


def test_where_celery_is_not_installed_a_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "dagster_celery", None)
    with pytest.raises(PermanentError, match=r"dagster-celery, which is not installed: .*requirements-deploy.lock"):
        executor(celery_settings())


def test_a_step_leaves_the_queue_when_it_is_done_so_that_a_killed_workers_step_is_anothers():
    config = celery_config(celery_settings(celery_redeliver_seconds=77))["config_source"]
    assert config["task_acks_late"] is True
    assert config["task_reject_on_worker_lost"] is True
    assert config["worker_prefetch_multiplier"] == 1
    assert config["broker_transport_options"]["visibility_timeout"] == 77


def test_workers_answer_through_the_broker_unless_another_place_is_named():
    assert celery_config(celery_settings())["backend"] == BROKER
    assert celery_config(celery_settings(celery_backend="redis://other/1"))["backend"] == "redis://other/1"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("rediss://host:6379/0", "rediss://host:6379/0?ssl_cert_reqs=CERT_REQUIRED"),
        ("rediss://host/0?ssl_ca_certs=/ca.pem", "rediss://host/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=CERT_REQUIRED"),
        ("rediss://host/0?ssl_cert_reqs=CERT_NONE", "rediss://host/0?ssl_cert_reqs=CERT_NONE"),
    ],
)
def test_a_redis_by_tls_must_show_its_certificate_unless_the_address_says_otherwise(address, told):
    config = celery_config(Settings(executor="celery", celery_broker=address, postgres_url=DATABASE))
    assert (config["broker"], config["backend"]) == (told, told)


def test_runs_and_workers_agree_on_broker_and_queue_and_the_ui_is_not_told_the_password():
    pytest.importorskip("dagster_celery", reason="dagster-celery is not installed (requirements-deploy.lock)")
    settings = celery_settings()
    definition = executor(settings)
    assert definition.name == "celery"
    job = dg.Definitions(jobs=[an_op_job], executor=definition).resolve_job_def("an_op_job")
    assert job.executor_def.name == "celery"
    assert "hush" not in dg.serialize_value(job.get_job_snapshot())  # what webserver and database are given of a job
    app = celery_app(settings)
    assert app.conf.broker_url == BROKER
    assert app.conf.task_acks_late is True
    assert [queue.name for queue in app.conf.task_queues] == ["dagster"]
    assert "execute_plan" in app.tasks
