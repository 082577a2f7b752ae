"""Any fact of every kind, made from the types themselves, so that a kind or a field that is added is in it at once."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import strategies as st

from metering.facts import (
    FACT_TYPES,
    AnyFact,
    BypassUsed,
    EquipmentFault,
    Excluded,
    Readings,
    Tick,
)
from metering.limits import FIRST_GAS_DAY, LAST_GAS_DAY

FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2199, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
INSTANTS = st.integers(0, (LAST - FIRST) // timedelta(microseconds=1)).map(lambda us: FIRST + timedelta(microseconds=us))
GAS_DAYS = st.dates(FIRST_GAS_DAY, LAST_GAS_DAY)
DECIMALS = st.builds(lambda count, places: Decimal(count).scaleb(-places), st.integers(1, 10**12), st.integers(0, 12))
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
ORDERED: dict[type, tuple[str, str]] = {
    BypassUsed: ("at", "until"),
    EquipmentFault: ("from_", "until"),
    Excluded: ("from_", "until"),
}


def _values(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a field's type."""
    match kind:
        case msgspec.inspect.Metadata():
            return _values(kind.type)
        case msgspec.inspect.UnionType():
            return st.one_of(*(_values(each) for each in kind.types))
        case msgspec.inspect.IntType():
            return st.integers(0 if kind.ge is None else kind.ge, kind.le if kind.le is not None else 2**62 - 1)
        case msgspec.inspect.StrType():
            return TEXTS.filter(lambda text: len(text) >= (kind.min_length or 0))
        case msgspec.inspect.LiteralType():
            return st.sampled_from(kind.values)
        case msgspec.inspect.VarTupleType():
            return st.lists(_values(kind.item_type), min_size=kind.min_length or 0, max_size=3, unique=True).map(tuple)
        case _:
            return _PLAIN[type(kind)]


_PLAIN: dict[type[msgspec.inspect.Type], st.SearchStrategy[Any]] = {
    msgspec.inspect.NoneType: st.none(),
    msgspec.inspect.BoolType: st.booleans(),
    msgspec.inspect.FloatType: st.floats(-1e9, 1e9),
    msgspec.inspect.DecimalType: DECIMALS,
    msgspec.inspect.DateType: GAS_DAYS,
    msgspec.inspect.DateTimeType: INSTANTS,
}
_TICKS = st.integers(-(2**62) + 1, 2**62 - 1)
_ENTRIES = st.lists(st.one_of(_TICKS, st.none(), st.just("x"), st.just(1.5), st.just([1, None])), max_size=5)


@st.composite
def _readings(draw: st.DrawFn) -> Readings:
    index = draw(st.lists(_TICKS, max_size=5) | _ENTRIES)
    fields = {each.name: _values(each.type) for each in _fields(Readings) if each.name not in _COLUMNS}
    columns: dict[str, Any] = {"index": tuple(index)}
    if draw(st.booleans()):
        columns["at"] = tuple(draw(st.lists(INSTANTS, min_size=len(index), max_size=len(index))))
    else:
        columns |= {"first_at": draw(INSTANTS.filter(lambda at: at.year < 2199))}
        columns |= {"interval_s": draw(st.integers(1, 86_400))} if len(index) > 1 else {}
    if draw(st.booleans()):
        columns["unconverted"] = tuple(draw(_ENTRIES.map(lambda some: (some + [None] * 5)[: len(index)])))
    if draw(st.booleans()):
        columns["interval_m3"] = tuple(draw(st.none() | DECIMALS) for _ in index[1:])
    if draw(st.booleans()):
        columns["reference_index"] = {"start": draw(st.integers(0, 9)), "end": 9, "m3_per_tick": "0.10", "digits": 8}
    return msgspec.convert({**draw(st.fixed_dictionaries(fields)), **columns, "fact": "readings"}, Readings)


_COLUMNS = {"at", "first_at", "interval_s", "index", "unconverted", "reference_index", "interval_m3"}


def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.inspect.Field, ...]:
    told = msgspec.inspect.type_info(kind)
    assert isinstance(told, msgspec.inspect.StructType)
    return told.fields


def of_kind(kind: type[msgspec.Struct]) -> st.SearchStrategy[AnyFact]:
    """Any fact of a kind, with `received_at` or without."""
    if kind is Readings:
        return _readings()
    return st.fixed_dictionaries({field.name: _values(field.type) for field in _fields(kind)}).map(
        lambda some: _made(kind, some)
    )


def _made(kind: Any, fields: dict[str, Any]) -> Any:
    """The fact of these fields, set right where a type has a rule between two of them."""
    if kind in ORDERED:
        first, last = ORDERED[kind]
        if fields[last] is not None:
            fields[first], fields[last] = sorted((fields[first], fields[last]))
    if "digits" in fields and "index" in fields:
        fields["index"] %= 10 ** fields["digits"]
    if kind is Tick and fields["received_at"] is not None:
        fields["now"], fields["received_at"] = sorted((fields["now"], fields["received_at"]))
    return kind(**fields)


FACTS: st.SearchStrategy[AnyFact] = st.one_of(*(of_kind(kind) for kind in FACT_TYPES))
