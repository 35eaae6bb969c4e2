"""The run config that commands, sensors and schedules give a month's run is valid for its job, for every kind of taxi."""

import dagster as dg
import pytest

from taxi_assets.assets.guards import Replacing
from taxi_assets.assets.month_status import run_config
from taxi_assets.core.month import Month
from taxi_assets.datasets.schema import KINDS
from taxi_assets.definitions import build_defs
from taxi_assets.keys import job_name
from taxi_assets.settings import Settings
from taxi_assets.status.decide import Decision, State


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_may_be_replaced_and_the_rules_of_a_month_are_valid_config_of_its_job(kind):
    decision = Decision(Month(2021, 1), State.MISSING, "", rules={"reject_unknown_passengers": False})
    config = run_config(kind, decision, Replacing(accept_smaller=True))
    ops = dg.validate_run_config(
        build_defs(Settings(kinds=kind.name)).resolve_job_def(job_name(kind)), {"loggers": {"terminal": {}}, **config}
    )["ops"]
    configured = {name: op["config"] for name, op in ops.items() if op.get("config")}
    assert [config.get("accept_smaller") for config in configured.values()].count(True) == 1
    assert [config.get("reject_unknown_passengers") for config in configured.values()].count(False) == 1
