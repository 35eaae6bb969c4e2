"""Tables of any Arrow types become tables of the types that databases keep, or are refused by name."""

import datetime as dt

import pyarrow as pa
import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month
from taxi_assets.sinks.types import conformed

MONTH = Month(2021, 1)


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        (pa.array([1, None], pa.int8()), "int16"),
        (pa.array([1, None], pa.uint16()), "int64"),
        (pa.array([1, None], pa.int32()), "int64"),
        (pa.array([1, None], pa.uint64()), "int64"),
        (pa.array([1.5, None], pa.float32()), "double"),
        (pa.array(["a", None], pa.large_string()), "string"),
        (pa.array(["a", None]).dictionary_encode(), "string"),
        (pa.array([None, None], pa.null()), "string"),
        (pa.array([dt.date(2021, 1, 2), None], pa.date64()), "date32[day]"),
        (pa.array([dt.datetime(2021, 1, 2), None], pa.timestamp("ns")), "timestamp[us]"),
        (pa.array([dt.datetime(2021, 1, 2), None], pa.timestamp("s")), "timestamp[us]"),
    ],
)
def test_a_type_is_kept_without_losing_a_value(values, type_):
    rows = conformed(pa.table({"value": values}), MONTH, "sales")
    assert str(rows.schema.field("value").type) == type_
    assert rows["value"].to_pylist() == values.to_pylist()


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[1]]),
        pa.array([b"a"]),
        pa.array([dt.timedelta(1)]),
        pa.array([dt.datetime(2021, 1, 2)], pa.timestamp("us", "UTC")),
        pa.array([1], pa.decimal128(5, 2)),
    ],
)
def test_another_type_is_refused_by_name(values):
    with pytest.raises(
        PermanentError, match=r"^2021-01: column value of sales is .*, which databases do not keep; cast"
    ):
        conformed(pa.table({"value": values}), MONTH, "sales")


def test_a_value_that_would_change_is_refused():
    with pytest.raises(
        PermanentError, match=r"^2021-01: column value of sales is uint64, and a value would change as int64"
    ):
        conformed(pa.table({"value": pa.array([1 << 63], pa.uint64())}), MONTH, "sales")
