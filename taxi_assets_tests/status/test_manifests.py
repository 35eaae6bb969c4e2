"""Reading what several sinks record, of which one fails or does not answer."""

from __future__ import annotations

import threading
import time

import pytest

from taxi_assets.core.errors import PermanentError, TransientError
from taxi_assets.core.manifest import Manifest
from taxi_assets.core.month import Month
from taxi_assets.status.manifests import call_all, read_manifests

MONTH = Month(2021, 1)


def refuse(*_: object) -> None:
    raise PermanentError("It refuses.")


def test_all_are_called_at_once_and_errors_are_returned_by_name():
    together = threading.Barrier(2)
    returned, errors = call_all({"one": lambda: together.wait(5), "two": lambda: together.wait(5), "three": refuse})
    assert sorted(returned.values()) == [0, 1]
    assert {name: str(error) for name, error in errors.items()} == {"three": "It refuses."}


def test_one_that_does_not_answer_is_not_waited_for():
    end, before = threading.Event(), time.monotonic()
    returned, errors = call_all({"one": lambda: end.wait(20), "two": lambda: 2}, seconds=0.2)
    assert returned == {"two": 2}
    assert isinstance(errors["one"], TransientError)
    assert time.monotonic() - before < 10
    end.set()


def test_an_error_that_is_a_bug_is_raised():
    with pytest.raises(ZeroDivisionError):
        call_all({"one": lambda: 1 // 0})


def test_a_sink_that_cannot_be_read_is_an_error_or_left_out():
    recorders = {"postgres_table": refuse, "bq_table": lambda _: {MONTH: Manifest(1)}}
    with pytest.raises(PermanentError, match=r"It refuses\."):
        read_manifests(recorders)
    unreadable = {}
    assert read_manifests(recorders, [MONTH], unreadable) == {MONTH: {"bq_table": Manifest(1)}}
    assert unreadable.keys() == {"postgres_table"}
