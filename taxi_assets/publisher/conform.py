"""Converts a published column to its canonical type. Values that do not fit are reported, never rounded or truncated.

The whole column is cast at once, text and numbers alike; only when that fails, the invalid values are searched for.
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from taxi_assets.datasets.encodings import CODES, LICENSE, LICENSES, NULL_TEXTS
from taxi_assets.publisher.notation import PUBLISHED, Notation
from taxi_assets.publisher.times import PUBLISHED_TIMES, TimeFormat, cast_each

TIMESTAMP_LENGTH = 19
"""Characters of `2021-01-31 23:59:59`; Arrow also reads shorter forms, which are rejected as truncated."""

INTEGER = re.compile(r"([+-]?)0*([0-9]{1,18})(?:[.]0*)?")
"""A whole number in text; pandas writes `1.0` in a column that has empty values."""

_UNREADABLE = object()


def is_readable_type(source: pa.DataType, target: pa.DataType) -> bool:
    """Return whether a published column of type `source` can be converted to `target`."""
    source = source.value_type if pt.is_dictionary(source) else source
    if pt.is_null(source) or is_text(source):
        return True
    if pt.is_boolean(source):
        return pt.is_string(target) or pt.is_integer(target)
    if pt.is_timestamp(target):
        return pt.is_timestamp(source) and source.tz is None
    return pt.is_integer(source) or pt.is_floating(source) or pt.is_decimal(source)


def conform(
    name: str, target: pa.DataType, values: pa.Array, notation: Notation = PUBLISHED
) -> tuple[pa.Array, pa.Array | None]:
    """Convert the published values of the column `name` to `target`: int16, int64, float64, timestamp[us] or string.

    Returns:
        The values, null where the published one is absent or unreadable, and a mask of the unreadable ones, or None when there
        are none. Every value of a type that is not readable as `target` (a list, a boolean) is unreadable.
    """
    if pt.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pt.is_null(values.type):
        return pa.nulls(len(values), target), None
    if not is_readable_type(values.type, target):
        return pa.nulls(len(values), target), values.is_valid() if values.null_count < len(values) else None
    if is_text(values.type):
        values = unchecked_text(values)
    elif pt.is_boolean(values.type):
        values = values.cast(pa.int8())
    elif pt.is_decimal(values.type):
        values = decimal_to_double(values)
    elif pt.is_float16(values.type):
        values = values.cast(pa.float64())
    if pt.is_string(target) or (pt.is_integer(target) and is_text(values.type)):
        return _coded(name, target, values)
    if pt.is_timestamp(target) and is_text(values.type) and notation.times != PUBLISHED_TIMES:
        return _read_times(values, notation.times)
    if pt.is_floating(target) and is_text(values.type) and notation.decimal_comma:
        values = pc.replace_substring(pc.replace_substring(values, ".", "|"), ",", ".")
    return _convert(values, target)


def _coded(name: str, target: pa.DataType, values: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    """Convert codes and small whole numbers by converting each distinct value once."""
    table, licenses = CODES.get(name, {}), name in LICENSES
    encoded = values.dictionary_encode()
    distinct = encoded.dictionary.cast(pa.binary()) if is_text(values.type) else encoded.dictionary
    read = [_code(value, table, target, licenses) for value in distinct.to_pylist()]
    converted = pa.array([None if value is _UNREADABLE else value for value in read], target).take(encoded.indices)
    if _UNREADABLE not in read:
        return converted, None
    bad = pa.array([value is _UNREADABLE for value in read]).take(encoded.indices)
    return converted, bad.fill_null(False)


def _code(value: Any, table: dict[str, str], target: pa.DataType, licenses: bool) -> Any:
    """Return the meaning of a published code: a number, or text when `target` is text; None for a missing value."""
    text = (plain_text(value) if isinstance(value, bytes) else f"{value:g}").strip(" \t")
    word = text.upper()
    if word in NULL_TEXTS and word not in table:
        return None
    if not table and pt.is_string(target):
        return word if licenses and LICENSE.fullmatch(word) else text
    if whole := INTEGER.fullmatch(word):
        word = str(int(whole[1] + whole[2]))
    word = table.get(word, word)
    if pt.is_string(target):
        return word if word in table.values() else _UNREADABLE
    if not INTEGER.fullmatch(word):
        return _UNREADABLE
    number = int(word)
    return number if -(2 ** (target.bit_width - 1)) <= number < 2 ** (target.bit_width - 1) else _UNREADABLE


def _read_times(values: pa.Array, times: TimeFormat) -> tuple[pa.Array, pa.Array | None]:
    read, bad = times.read(values)
    if not pc.any(bad, min_count=0).as_py():
        return read, None
    return times.read(_without_null_texts(values))


def _without_null_texts(values: pa.Array) -> pa.Array:
    values = pc.ascii_trim(values, characters=" \t")
    return pc.if_else(pc.is_in(pc.ascii_upper(values), pa.array(NULL_TEXTS)), None, values)


def _convert(values: pa.Array, target: pa.DataType) -> tuple[pa.Array, pa.Array | None]:
    """Cast all values; if that fails, without blanks and null texts; if that fails, without the invalid values."""
    try:
        return _cast(values, target), None
    except pa.ArrowInvalid:
        pass
    if is_text(values.type):
        values = _without_null_texts(values)
    encoded = values.dictionary_encode()
    read, bad = cast_each(encoded.dictionary, lambda some: _cast(some, target))
    bad = bad.take(encoded.indices).fill_null(False)
    return read.take(encoded.indices), bad if pc.any(bad).as_py() else None


def _cast(values: pa.Array, target: pa.DataType) -> pa.Array:
    """Cast exactly; raise ArrowInvalid when any value does not fit. NaN becomes null; infinity is invalid."""
    if is_text(values.type):
        shortest = pc.min(pc.binary_length(values)).as_py() if pt.is_timestamp(target) else None
        if shortest is not None and shortest < TIMESTAMP_LENGTH:
            raise pa.ArrowInvalid("not a full timestamp")
        values = values.cast(target)
    if pt.is_floating(values.type):
        finite = pc.is_finite(values)
        if not pc.all(finite, min_count=0).as_py():
            if pc.any(pc.is_inf(values)).as_py():
                raise pa.ArrowInvalid("infinite")
            values = pc.if_else(finite, values, None)
    return values.cast(target)


def decimal_to_double(values: pa.Array) -> pa.Array:
    """Convert decimals to the nearest doubles; Arrow's direct cast makes 765.5500000000001 of 765.55."""
    return values.cast(pa.string()).cast(pa.float64())


def is_text(kind: pa.DataType) -> bool:
    """Return whether the type is one of Arrow's types of text, or of bytes, as which some writers keep text."""
    return kind in (
        *(pa.string(), pa.large_string(), pa.string_view()),
        *(pa.binary(), pa.large_binary(), pa.binary_view()),
    )


def unchecked_text(values: pa.Array) -> pa.Array:
    """Return text of any type as strings, without a check that it is UTF-8; `plain_text` escapes what is not."""
    return values.cast(pa.binary()).view(pa.string())


def valid_text(values: pa.Array) -> pa.Array:
    """Return the values as text that every sink can store, decoded by `plain_text` if one is not."""
    try:
        values.validate(full=True)
        if not pc.any(pc.match_substring(values, "\0")).as_py():
            return values
    except pa.ArrowInvalid:
        pass
    return pa.array([None if v is None else plain_text(v) for v in values.cast(pa.binary()).to_pylist()], pa.string())


def plain_text(value: bytes) -> str:
    """Decode published bytes so that they can be stored as text: no NULs, bytes that are not UTF-8 as `\\xff`."""
    return value.decode("utf-8", "backslashreplace").replace("\0", r"\x00")
