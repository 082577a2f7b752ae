"""COSEM data in A-XDR (IEC 62056-5-3, 62056-6-2): values with their types, to bytes and back.

A compact array is decoded to the array that it stands for. Depth and number of values are bounded, as a few octets of a
compact array's type description could otherwise claim any number of them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from collectors.dlms_base import Cursor, LocalError, Malformed, TooLong, length, octets

DEPTH_MAX = 16
VALUES_MAX = 200_000


class Kind(IntEnum):
    """The types, by their tags."""

    NULL = 0
    ARRAY = 1
    STRUCTURE = 2
    BOOLEAN = 3
    BIT_STRING = 4
    DOUBLE_LONG = 5
    DOUBLE_LONG_UNSIGNED = 6
    OCTET_STRING = 9
    VISIBLE_STRING = 10
    UTF8_STRING = 12
    BCD = 13
    INTEGER = 15
    LONG = 16
    UNSIGNED = 17
    LONG_UNSIGNED = 18
    COMPACT_ARRAY = 19
    LONG64 = 20
    LONG64_UNSIGNED = 21
    ENUM = 22
    FLOAT32 = 23
    FLOAT64 = 24
    DATE_TIME = 25
    DATE = 26
    TIME = 27
    DONT_CARE = 255


Value: TypeAlias = "bool | int | float | str | bytes | tuple[Data, ...] | None"


@dataclass(frozen=True, slots=True)
class Data:
    """A value and its type. Bit strings are text of 0 and 1; dates and times octets; arrays and structures tuples of Data."""

    kind: Kind
    value: Value = None

    @property
    def items(self) -> tuple[Data, ...]:
        """What an array or a structure holds. Raises Malformed where this is neither."""
        if not isinstance(self.value, tuple):
            raise Malformed(f"{self.kind.name.lower()} where an array or a structure belongs")
        return self.value

    @property
    def number(self) -> int:
        """A whole number of any size. Raises Malformed where this is none."""
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise Malformed(f"{self.kind.name.lower()} where a whole number belongs")
        return self.value

    @property
    def octets(self) -> bytes:
        """An octet string, date or time. Raises Malformed where this is none."""
        if not isinstance(self.value, bytes):
            raise Malformed(f"{self.kind.name.lower()} where an octet string belongs")
        return self.value


NULL = Data(Kind.NULL)
INTEGERS: dict[Kind, tuple[int, bool]] = {
    Kind.DOUBLE_LONG: (4, True),
    Kind.DOUBLE_LONG_UNSIGNED: (4, False),
    Kind.BCD: (1, True),
    Kind.INTEGER: (1, True),
    Kind.LONG: (2, True),
    Kind.UNSIGNED: (1, False),
    Kind.LONG_UNSIGNED: (2, False),
    Kind.LONG64: (8, True),
    Kind.LONG64_UNSIGNED: (8, False),
    Kind.ENUM: (1, False),
}
_FIXED_OCTETS = {Kind.DATE_TIME: 12, Kind.DATE: 5, Kind.TIME: 4}
_FLOATS = {Kind.FLOAT32: ">f", Kind.FLOAT64: ">d"}
_EMPTY = (Kind.NULL, Kind.DONT_CARE)


def structure(*items: Data) -> Data:
    """A structure of these."""
    return Data(Kind.STRUCTURE, items)


def array(*items: Data) -> Data:
    """An array of these."""
    return Data(Kind.ARRAY, items)


def long_unsigned(number: int) -> Data:
    """A number of 16 bits."""
    return Data(Kind.LONG_UNSIGNED, number)


def octet_string(data: bytes) -> Data:
    """An octet string."""
    return Data(Kind.OCTET_STRING, data)


# To bytes.


def encode(data: Data) -> bytes:
    """Tag and value. LocalError where the value does not fit its type."""
    if data.kind in (Kind.ARRAY, Kind.STRUCTURE) and isinstance(data.value, tuple):
        return bytes([data.kind]) + length(len(data.value)) + b"".join(encode(item) for item in data.value)
    try:
        return bytes([data.kind]) + _encode_scalar(data.kind, data.value)
    except (OverflowError, struct.error, ValueError) as error:
        raise LocalError(f"{data.value!r} is no {data.kind.name.lower()}") from error


def _encode_scalar(kind: Kind, value: Value) -> bytes:
    match value:
        case None if kind in _EMPTY:
            return b""
        case bool() if kind is Kind.BOOLEAN:
            return bytes([value])
        case int() if kind in INTEGERS and not isinstance(value, bool):
            size, signed = INTEGERS[kind]
            return value.to_bytes(size, "big", signed=signed)
        case float() if kind in _FLOATS:
            return struct.pack(_FLOATS[kind], value)
        case bytes() if kind is Kind.OCTET_STRING:
            return octets(value)
        case bytes() if len(value) == _FIXED_OCTETS.get(kind):
            return value
        case str():
            return _encode_text(kind, value)
    raise ValueError(kind)


def _encode_text(kind: Kind, value: str) -> bytes:
    if kind is Kind.VISIBLE_STRING:
        return octets(value.encode("latin-1"))
    if kind is Kind.UTF8_STRING:
        return octets(value.encode("utf-8"))
    if kind is Kind.BIT_STRING and set(value) <= {"0", "1"}:
        filled = value + "0" * (-len(value) % 8)
        return length(len(value)) + bytes(int(filled[n : n + 8], 2) for n in range(0, len(filled), 8))
    raise ValueError(kind)


# From bytes.


def decode(data: bytes) -> Data:
    """The one value that `data` is. Raises RemoteError."""
    cursor = Cursor(data)
    found = take(cursor)
    cursor.end("the value")
    return found


def take(cursor: Cursor) -> Data:
    """The value at the cursor. Raises RemoteError."""
    return _Decoder(cursor).tagged(0)


Shape: TypeAlias = "tuple[Kind, int, tuple[Shape, ...]]"  # a type description: type, elements of an array, their types


class _Decoder:
    """One value, with what there is in it counted: all that one message holds is as much as one value may be."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def tagged(self, depth: int) -> Data:
        self._count(depth)
        kind = self._kind()
        if kind in (Kind.ARRAY, Kind.STRUCTURE):
            count = self._cursor.length()
            if count > self._cursor.left:  # each takes an octet at least
                raise Malformed(f"{count} elements in {self._cursor.left} octets")
            return Data(kind, tuple(self.tagged(depth + 1) for _ in range(count)))
        if kind is Kind.COMPACT_ARRAY:
            return self._compact_array(depth)
        return Data(kind, _SCALARS[kind](self._cursor))

    def _compact_array(self, depth: int) -> Data:
        shape = self._shape(depth + 1)
        contents = Cursor(self._cursor.octets(), self._cursor.values)
        inner = _Decoder(contents)
        items: list[Data] = []
        while contents.left:
            before = contents.left
            items.append(inner.shaped(shape, depth + 1))
            if contents.left == before:
                raise Malformed("a compact array of elements without octets")
        self._cursor.values = contents.values
        return Data(Kind.ARRAY, tuple(items))

    def _shape(self, depth: int) -> Shape:
        self._count(depth)
        kind = self._kind()
        if kind is Kind.ARRAY:
            return kind, self._cursor.unsigned(2), (self._shape(depth + 1),)
        if kind is Kind.STRUCTURE:
            count = self._cursor.length()
            if count > self._cursor.left:
                raise Malformed(f"{count} types in {self._cursor.left} octets")
            return kind, count, tuple(self._shape(depth + 1) for _ in range(count))
        if kind is Kind.COMPACT_ARRAY:
            raise Malformed("a compact array within a compact array")
        return kind, 0, ()

    def shaped(self, shape: Shape, depth: int) -> Data:
        """A value whose type the description has told."""
        self._count(depth)
        kind, count, inner = shape
        if kind is Kind.ARRAY:
            return Data(kind, tuple(self.shaped(inner[0], depth + 1) for _ in range(count)))
        if kind is Kind.STRUCTURE:
            return Data(kind, tuple(self.shaped(one, depth + 1) for one in inner))
        return Data(kind, _SCALARS[kind](self._cursor))

    def _kind(self) -> Kind:
        tag = self._cursor.unsigned()
        try:
            return Kind(tag)
        except ValueError:
            raise Malformed(f"data type {tag}") from None

    def _count(self, depth: int) -> None:
        self._cursor.values += 1
        if depth > DEPTH_MAX or self._cursor.values > VALUES_MAX:
            raise TooLong(f"more than {DEPTH_MAX} levels or {VALUES_MAX} values of data")


def _whole(size: int, signed: bool) -> Callable[[Cursor], Value]:
    return lambda cursor: int.from_bytes(cursor.take(size), "big", signed=signed)


def _float(form: str) -> Callable[[Cursor], Value]:
    return lambda cursor: float(struct.unpack(form, cursor.take(struct.calcsize(form)))[0])


def _fixed(size: int) -> Callable[[Cursor], Value]:
    return lambda cursor: cursor.take(size)


def _bits(cursor: Cursor) -> Value:
    count = cursor.length()
    packed = cursor.take((count + 7) // 8)
    return "".join(f"{byte:08b}" for byte in packed)[:count]


def _utf8(cursor: Cursor) -> Value:
    try:
        return cursor.octets().decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"text that is not UTF-8: {error.reason}") from error


_SCALARS: dict[Kind, Callable[[Cursor], Value]] = {
    **{kind: _whole(size, signed) for kind, (size, signed) in INTEGERS.items()},
    **{kind: _float(form) for kind, form in _FLOATS.items()},
    **{kind: _fixed(size) for kind, size in _FIXED_OCTETS.items()},
    **{kind: lambda _cursor: None for kind in _EMPTY},
    Kind.BOOLEAN: Cursor.flag,
    Kind.BIT_STRING: _bits,
    Kind.OCTET_STRING: Cursor.octets,
    Kind.VISIBLE_STRING: lambda cursor: cursor.octets().decode("latin-1"),
    Kind.UTF8_STRING: _utf8,
}
