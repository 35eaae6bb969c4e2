"""Months are parsed strictly and have limits."""

import datetime as dt

import pytest

from taxi_assets.core.errors import PermanentError
from taxi_assets.core.month import Month


@pytest.mark.parametrize("text", ["2021-01", "2021-01-01", " 2021-01 "])
def test_a_month_is_read_from_both_spellings(text):
    assert Month.parse(text) == Month(2021, 1)


@pytest.mark.parametrize("text", ["", "2021", "2021-13", "2021-00", "2021-1", "2021-01-02", "January"])
def test_anything_else_is_refused_by_name(text):
    with pytest.raises(PermanentError, match=text or "''"):
        Month.parse(text)


def test_december_is_followed_by_january():
    december = Month(2020, 12)
    assert december.next == Month(2021, 1)
    assert december.next.previous == december
    assert december.previous == Month(2020, 11)
    assert (december.start, december.end) == (dt.datetime(2020, 12, 1), dt.datetime(2021, 1, 1))
    assert (str(december), december.key, december.compact) == ("2020-12", "2020-12-01", "202012")


def test_february_knows_leap_years():
    assert [len(Month(year, 2).days) for year in (2020, 2021)] == [29, 28]
