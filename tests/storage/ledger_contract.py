"""The contract of ledger stores as tests, and records to try it with. `LedgerStoreContract` is run for every store."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from msgspec import UNSET

from metering.ledger import AnyRecord, CheckReadFound, Day, ReadError, Reconciliation, Rejected, Tolerance
from metering.messages import LedgerMessage, decode_change, encode_change
from storage.ledger_store import BadMessage, LedgerStore, MemoryLedgerStore

NOON = datetime(2026, 1, 2, 12, 0, 0, 250, tzinfo=UTC)
JAN = [date(2026, 1, n) for n in range(1, 32)]

ACTUAL = Day(
    meter_point="1", gas_day=JAN[0], users=("u", "v"), equipment="e", status="actual", start_index=1000, end_index=1116,
    volume_m3=Decimal("11.628"), quantity_kwh=Decimal("126.100"), closed_out=False, determined_status=None,
    determined_m3=None, determined_kwh=None, since=None, valid=True, valid_at=NOON, by_11=True, ratchet_day=True,
    failed=(), ran=("malformed", "excess_flow"),
)  # fmt: skip
RECONCILIATION = Reconciliation(
    meter_point="1", gas_day=JAN[1], kind="failed_daily_read", volume_m3=Decimal("-1.628"),
    quantity_kwh=Decimal("-17.655"), since=NOON,
)  # fmt: skip
REJECTED = Rejected(
    meter_point="1", gas_day=JAN[0], at=NOON, index=5, rule="excess_flow", clause="1.5", detail='5 > "4", \\',
    received_at=NOON,
)  # fmt: skip
TOLERANCE = Tolerance(
    meter_point="1", gas_day=JAN[0], check="tolerance_1_percent", a=Decimal("97.000"), b=Decimal("100.000"),
    deviation=Decimal("-0.030000"), within=False,
)  # fmt: skip
TOLERANCE_OF_CHECK_READ = Tolerance(
    meter_point="1", from_=JAN[0], until=JAN[1], check="check_read", a=Decimal("97.000"), b=Decimal("0.000"),
    deviation=None, within=True,
)  # fmt: skip
CHECK_READ = CheckReadFound(
    meter_point="1", gas_day=JAN[1], from_=JAN[0], check_m3=Decimal("11.628"), check_kwh=Decimal("126.100"),
    previous_kwh=Decimal("100000.500"), difference_kwh=Decimal("-26.000"), reconciled=False,
)  # fmt: skip
READ_ERROR = ReadError(
    meter_point="1", user="Alder Gas", gas_day=JAN[0], state="inspected", due=NOON, volume_m3=None, inspection_cost="user",
    expert_cost=None, refused=None,
)  # fmt: skip
EVERY_KIND: tuple[AnyRecord, ...] = (
    CHECK_READ, ACTUAL, READ_ERROR, RECONCILIATION, REJECTED, TOLERANCE, TOLERANCE_OF_CHECK_READ,
)  # fmt: skip  # sorted by key


def put(record: AnyRecord, offset: int = 0) -> LedgerMessage:
    return LedgerMessage(0, offset, record)


def void(record: AnyRecord, offset: int = 0) -> LedgerMessage:
    return LedgerMessage(0, offset, None, record.key())


def changed(record: AnyRecord, **fields: Any) -> Any:
    return msgspec.structs.replace(record, **fields)


def through_wire(record: AnyRecord) -> AnyRecord:
    """The record as it comes from Kafka."""
    made = decode_change(encode_change(record, 0, 0)[1]).record
    assert made is not None
    return made


def folded(messages: Sequence[LedgerMessage]) -> list[AnyRecord]:
    """What a ledger holds after these messages: the specification of `write`."""
    store = MemoryLedgerStore()
    store.write(messages)
    return list(store.records())


class LedgerStoreContract:
    """Run for a class with a fixture `store`, an empty store."""

    def test_an_empty_store_has_no_records(self, store: LedgerStore) -> None:
        assert list(store.records()) == []
        store.write([])
        assert list(store.records()) == []

    def test_every_kind_of_record_comes_back_exactly_sorted_by_key(self, store: LedgerStore) -> None:
        store.write([put(record) for record in reversed(EVERY_KIND)])
        found = list(store.records())
        assert found == list(EVERY_KIND)
        assert msgspec.json.encode(found) == msgspec.json.encode(EVERY_KIND)

    def test_keys_sort_as_text_by_kind_meter_point_day_and_the_rest(self, store: LedgerStore) -> None:
        points = ["10", "9", "a", "A", "é", "1"]
        records = [changed(ACTUAL, meter_point=point, gas_day=day) for point in points for day in (JAN[9], JAN[1])]
        records += [changed(REJECTED, index=index, rule=rule) for index in (10, 9, None) for rule in ("b", "a")]
        store.write([put(record) for record in records])
        assert list(store.records()) == sorted(records, key=lambda record: record.key())

    def test_a_later_offset_replaces_every_field(self, store: LedgerStore) -> None:
        bare = changed(ACTUAL, start_index=None, end_index=None, volume_m3=None, quantity_kwh=None, valid_at=None, users=())
        full = changed(
            ACTUAL, determined_status="restored", determined_m3=Decimal("0.000"), determined_kwh=Decimal("0.000"),
            since=NOON,
        )  # fmt: skip
        for offset, record in enumerate([bare, full, ACTUAL, full, bare]):
            store.write([put(record, offset)])
            assert list(store.records()) == [record]

    def test_a_smaller_offset_changes_nothing(self, store: LedgerStore) -> None:
        store.write([put(ACTUAL, 7)])
        store.write([put(changed(ACTUAL, status="assumed"), 6)])
        store.write([void(ACTUAL, 3)])
        assert list(store.records()) == [ACTUAL]

    def test_an_equal_offset_replaces(self, store: LedgerStore) -> None:
        assumed, deemed = changed(ACTUAL, status="assumed"), changed(ACTUAL, status="deemed")
        store.write([put(ACTUAL, 7), put(assumed, 7)])
        assert list(store.records()) == [assumed]
        store.write([put(deemed, 7)])
        assert list(store.records()) == [deemed]

    def test_within_one_call_the_greatest_offset_stands(self, store: LedgerStore) -> None:
        store.write([put(changed(ACTUAL, status="assumed"), 8), put(ACTUAL, 9), put(changed(ACTUAL, equipment="x"), 2)])
        assert list(store.records()) == [ACTUAL]

    def test_a_void_takes_the_record_away_until_a_later_one(self, store: LedgerStore) -> None:
        for record in EVERY_KIND:
            store.write([put(record, 1)])
            store.write([void(record, 2)])
            assert list(store.records()) == []
            store.write([put(record, 1)])
            assert list(store.records()) == []
            store.write([put(record, 3)])
            assert list(store.records()) == [record]
            store.write([void(record, 3)])

    def test_a_void_of_what_never_was_is_no_record(self, store: LedgerStore) -> None:
        store.write([void(REJECTED, 2)])
        assert list(store.records()) == []

    def test_records_of_one_meter_point_and_some_days(self, store: LedgerStore) -> None:
        records = [changed(ACTUAL, meter_point=point, gas_day=day) for point in ("1", "2") for day in JAN[:9]]
        store.write([put(record) for record in [*records, RECONCILIATION]])
        assert list(store.records("2")) == records[9:]
        assert list(store.records("2", JAN[2], JAN[4])) == records[11:14]
        assert list(store.records(first_day=JAN[8])) == [records[8], records[17]]
        assert list(store.records(last_day=JAN[0])) == [records[0], records[9]]
        assert list(store.records("1", first_day=JAN[1], last_day=JAN[1])) == [records[1], RECONCILIATION]
        assert list(store.records("3")) == []
        store.write([put(TOLERANCE_OF_CHECK_READ)])
        assert list(store.records("1", first_day=JAN[1], last_day=JAN[1])) == [
            records[1],
            RECONCILIATION,
            TOLERANCE_OF_CHECK_READ,
        ]
        assert list(store.records(first_day=JAN[3], last_day=JAN[2])) == []

    def test_days_across_the_clock_change_are_days_of_their_own(self, store: LedgerStore) -> None:
        days = [date(2026, 3, 27) + timedelta(n) for n in range(5)] + [date(2025, 10, 24) + timedelta(n) for n in range(5)]
        days += [date(2015, 9, 29), date(2015, 9, 30), date(2015, 10, 1)]
        records = [changed(ACTUAL, gas_day=day) for day in sorted(days)]
        store.write([put(record) for record in records])
        assert list(store.records()) == records
        for record in records:
            assert list(store.records(first_day=record.gas_day, last_day=record.gas_day)) == [record]

    @pytest.mark.parametrize("index", [None, True, 0, -1, 2**63, 1.5, 1e300, "", "x", 'a"b\\', [], [None], {"a": [1]}, {}])
    def test_a_malformed_index_of_any_json_kind(self, store: LedgerStore, index: Any) -> None:
        record = changed(REJECTED, index=index, at=None, rule="malformed")
        store.write([put(record)])
        found = list(store.records())
        assert found == [record]
        assert msgspec.json.encode(found) == msgspec.json.encode([record])

    def test_any_text(self, store: LedgerStore) -> None:
        texts = ["", " ", "%", "%41", "\\", "a\\", "\\,", "a b,c=d", '"', "$", "${x}", "\n", "\r\n", "a\rb", "\t", "\x00"]
        texts += ["\x7f", "é", "e\u0301", "\u2028", "\u200b", "\ufeff", "\ufffd", "\U0001f525", "#", "x" * 300, "null"]
        records = [changed(ACTUAL, meter_point=text, equipment=text, users=(text, text)) for text in texts]
        records += [changed(REJECTED, meter_point=text, rule=text, index=text, detail=text) for text in texts]
        store.write([put(record) for record in records])
        assert list(store.records()) == sorted(records, key=lambda record: record.key())
        for record in records[: len(texts)]:
            assert next(store.records(record.meter_point)) == record

    @pytest.mark.parametrize(
        "message",
        [
            LedgerMessage(0, 0),
            LedgerMessage(0, 0, ACTUAL, ACTUAL.key()),
            LedgerMessage(0, 0, None, ()),
            LedgerMessage(0, 0, None, ("day", "1")),
            LedgerMessage(0, 0, None, ("week", "1", "2026-01-01")),
            LedgerMessage(0, 0, None, ("day", "1", "20260101")),
            LedgerMessage(0, 0, None, ("day", "1", "")),
        ],
    )
    def test_a_message_without_a_key_of_ours_is_refused_with_all_others(
        self, store: LedgerStore, message: LedgerMessage
    ) -> None:
        with pytest.raises(BadMessage):
            store.write([put(TOLERANCE), message])
        assert list(store.records()) == []


TEXT = st.text(max_size=6)
DAYS = st.sampled_from(JAN[:3])
INSTANTS = st.integers(-(2**52), 2**52).map(lambda us: NOON + timedelta(microseconds=us))
THREE_PLACES = st.integers(-(2**60), 2**60).map(lambda count: Decimal(count).scaleb(-3))
SIX_PLACES = st.integers(-(2**60), 2**60).map(lambda count: Decimal(count).scaleb(-6))
INDEXES = st.one_of(st.none(), st.integers(0, 10**18))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
POINTS = st.sampled_from(["1", "a b\\", "é,="])
RECORDS: st.SearchStrategy[AnyRecord] = st.one_of(
    st.builds(
        Day, meter_point=POINTS, gas_day=DAYS, users=st.lists(TEXT, max_size=3).map(tuple), equipment=TEXT,
        start_index=INDEXES, end_index=INDEXES, volume_m3=st.none() | THREE_PLACES, quantity_kwh=st.none() | THREE_PLACES,
        determined_m3=st.none() | THREE_PLACES, determined_kwh=st.none() | THREE_PLACES, since=st.none() | INSTANTS,
        valid_at=st.none() | INSTANTS, failed=st.lists(TEXT, max_size=2).map(tuple), ran=st.lists(TEXT, max_size=2).map(tuple),
    ),
    st.builds(
        Reconciliation, meter_point=POINTS, gas_day=DAYS, volume_m3=THREE_PLACES, quantity_kwh=st.none() | THREE_PLACES,
        since=INSTANTS,
    ),
    st.builds(
        Rejected, meter_point=POINTS, gas_day=DAYS, at=st.none() | INSTANTS, index=JSON_VALUES, rule=TEXT, clause=TEXT,
        detail=TEXT, received_at=INSTANTS,
    ),
    st.builds(
        Tolerance, meter_point=POINTS, gas_day=DAYS, from_=st.just(UNSET), until=st.just(UNSET), a=THREE_PLACES,
        b=THREE_PLACES, deviation=st.none() | SIX_PLACES,
    ),
    st.builds(
        Tolerance, meter_point=POINTS, gas_day=st.just(UNSET), from_=DAYS, until=DAYS, a=THREE_PLACES, b=THREE_PLACES,
        deviation=st.none() | SIX_PLACES,
    ),
    st.builds(
        CheckReadFound, meter_point=POINTS, gas_day=DAYS, from_=DAYS, check_m3=THREE_PLACES, check_kwh=THREE_PLACES,
        previous_kwh=THREE_PLACES, difference_kwh=THREE_PLACES,
    ),
    st.builds(
        ReadError, meter_point=POINTS, user=TEXT, gas_day=DAYS, due=st.none() | INSTANTS, volume_m3=st.none() | THREE_PLACES,
        refused=st.none() | TEXT,
    ),
)  # fmt: skip
MESSAGES = st.lists(
    st.builds(
        lambda record, offset, is_void: void(record, offset) if is_void else put(record, offset),
        RECORDS.map(through_wire),
        st.integers(0, 5),
        st.booleans(),
    ),
    max_size=12,
)
