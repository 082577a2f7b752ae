"""Registers to values and back, for every register map that comes with the project."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.modbus_maps import WORDS, Archive, Instant, MapError, Number, known, register_map
from collectors.modbus_registers import (
    BadRegisters,
    RecordDecoder,
    Span,
    Words,
    count_words,
    header_of,
    header_spans,
    instant_s,
    instant_words,
    merged,
    number_words,
    record_spans,
)
from tests.collectors.canned_modbus import archive_registers

MAPS = known()
ORDERS = st.sampled_from(("big", "little"))


def words_of(registers: dict[int, int], spans: list[Span], order: str) -> list[Words]:
    return [Words(s.first, [registers.get(s.first + n, 0) for n in range(s.length)], order) for s in spans]  # type: ignore[arg-type]


@pytest.mark.parametrize(("order", "words"), [("big", [0x0001, 0xE240]), ("little", [0xE240, 0x0001])])
def test_the_word_order_is_the_maps(order: str, words: list[int]) -> None:
    assert number_words(123456, 2, order) == words  # type: ignore[arg-type]
    assert Words(10, words, order).unsigned(10, 2) == 123456  # type: ignore[arg-type]


@given(
    st.integers(946_684_800, 4_102_444_799), st.sampled_from(("unix_u32", "ymdhms")), ORDERS, st.sampled_from((0, 3600, -18000))
)
def test_an_instant_comes_back_as_it_was_written(at_s: int, kind: str, order: str, utc_offset_s: int) -> None:
    instant = Instant(address=7, type=kind, utc_offset_s=utc_offset_s)  # type: ignore[arg-type]
    words = Words(7, instant_words(at_s, instant, order), order)  # type: ignore[arg-type]
    assert instant_s(words, instant) == at_s


def test_a_date_that_does_not_exist_is_no_instant() -> None:
    with pytest.raises(BadRegisters, match="register 7: month"):
        instant_s(Words(7, [2026, 13, 1, 0, 0, 0], "big"), Instant(address=7, type="ymdhms"))


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 20)), min_size=1, max_size=12),
    st.integers(20, 125),
    st.integers(0, 30),
)
def test_merged_requests_cover_what_was_asked_within_the_limit(
    parts: list[tuple[int, int]], max_count: int, max_gap: int
) -> None:
    spans = merged([Span(*part) for part in parts], max_count, max_gap)
    for first, length in parts:
        assert any(span.first <= first and first + length <= span.first + span.length for span in spans)
    assert all(span.length <= max_count for span in spans)
    assert len(spans) <= len(parts)


@given(st.integers(1, 40), st.integers(0, 99), st.integers(1, 100), st.integers(40, 125))
def test_no_request_cuts_a_record_and_all_are_asked_in_order_round_the_ring(
    size: int, position: int, records: int, max_count: int
) -> None:
    here = {"type": "u16", "address": 0}
    archive = Archive(
        address=1000, capacity=100, record_registers=size + 5, newest=Number(**here), stored=Number(**here),  # type: ignore[arg-type]
        newest_at=Instant(address=0, type="unix_u32"), at=Instant(address=1, type="unix_u32"), index=Number(**here),  # type: ignore[arg-type]
    )  # fmt: skip
    spans = record_spans(archive, position, records, max(max_count, size + 5))
    seen = []
    for span in spans:
        assert span.length <= max(max_count, size + 5)
        assert (span.first - 1000) % (size + 5) == 0
        seen += [(span.first - 1000) // (size + 5) + n for n in range(span.length // (size + 5))]
    assert seen == [(position + n) % 100 for n in range(records)]


@pytest.mark.parametrize("name", MAPS)
def test_every_map_reads_back_what_it_says(name: str) -> None:
    map_ = register_map(name)
    start_s = 1_790_000_000 // 3600 * 3600
    rows = [(start_s + n * 3600, None if n == 2 else 1000 + n) for n in range(6)]
    registers = archive_registers(map_, start_s + 20_000, rows, newest=2, status=["tamper"])
    interval = (
        words_of(registers, [Span(map_.interval.address, WORDS[map_.interval.type])], map_.word_order) if map_.interval else []
    )
    header = header_of(words_of(registers, header_spans(map_), map_.word_order), map_, *interval)
    is_ring = map_.archive.order == "ring"
    assert header == (start_s + 20_000, ("tamper",), 2 if is_ring else 0, 6, rows[-1][0], 3600)
    spans = record_spans(map_.archive, (2 - 5) % map_.archive.capacity if is_ring else 0, 6, map_.max_count)
    records = RecordDecoder(map_.archive, map_.word_order).records(words_of(registers, spans, map_.word_order))
    records = records if is_ring else records[::-1]
    assert [(record.at_s, record.index) for record in records] == rows
    assert all(span.length <= map_.max_count for span in spans)


def test_a_count_above_the_limit_is_no_answer_and_missing_is_none() -> None:
    map_ = register_map("pulse_recorder")
    archive = map_.archive
    spans = [Span(archive.address, archive.record_registers)]
    base = {archive.address + n: word for n, word in enumerate(instant_words(1_790_000_000, archive.at, "little"))}

    def read(count: int) -> int | None:
        words = dict(enumerate(number_words(count, 2, "little"), archive.address + archive.index.address))
        return RecordDecoder(archive, "little").records(words_of(base | words, spans, "little"))[0].index

    assert read(99_999_999) == 99_999_999
    assert read(0xFFFFFFFF) is None
    with pytest.raises(BadRegisters, match="100000000 is above 99999999"):
        read(100_000_000)


def test_what_an_archive_cannot_say_of_itself_is_refused() -> None:
    map_ = register_map("hourly_log")
    registers = archive_registers(map_, 1_790_000_000, [(1_789_999_200, 5)], newest=3)
    spans = header_spans(map_)
    assert len(spans) == 1
    with pytest.raises(BadRegisters, match="newest record at 1440 of 1440"):
        header_of(words_of(registers | {map_.archive.newest.address: 1440}, spans, "big"), map_)
    with pytest.raises(BadRegisters, match="1441 records stored, at most 1440 fit"):
        header_of(words_of(registers | {map_.archive.stored.address: 1441}, spans, "big"), map_)


def test_scaled_counts_are_ticks() -> None:
    number = Number(address=0, type="u32", ticks=10)
    assert count_words(1230, number, "big") == [0, 123]


# (type, ticks a count, registers, ticks; None: no value) as a meter's manual would have it
NUMBERS = [
    ("u16", 1, [0x002A], 42),
    ("u32", 10, [0x0001, 0x86A0], 1_000_000),
    ("u64", 1, [0x0000, 0x00E8, 0xD4A5, 0x0FFF], 999_999_999_999),
    ("bcd32", 1, [0x1234, 0x5678], 12_345_678),
    ("bcd32", 100, [0x0000, 0x0007], 700),
    ("bcd64", 1, [0x0000, 0x1234, 0x5678, 0x9012], 123_456_789_012),
    ("f32", 10, [0x4640, 0xE666], 123_456),  # 12345.6, of which the float is a little less
    ("f32", 1, [0x7FC0, 0x0000], None),
    ("f64", 100, [0x3FD3, 0x3333, 0x3333, 0x3333], 30),  # 0.3
    ("f64", 10, [0x40C8, 0x1CD7, 0x0A3D, 0x70A4], 123_456),  # 12345.68, cut down to whole ticks
    ("f64", 1, [0x7FF8, 0, 0, 0], None),
]


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize(("kind", "ticks", "registers", "count"), NUMBERS)
def test_a_number_in_registers_is_the_ticks_that_it_says(
    kind: str, ticks: int, registers: list[int], count: int | None, order: str
) -> None:
    number = Number(address=2, type=kind, ticks=ticks)  # type: ignore[arg-type]
    assert one_count(number, registers if order == "big" else registers[::-1], order) == count


@pytest.mark.parametrize(
    ("kind", "registers", "cause"),
    [
        ("bcd32", [0x1234, 0x567A], "register 2: 0x1234567a, which is no decimal number"),
        ("bcd64", [0xFFFF] * 4, "no decimal number"),
        ("f32", [0xC640, 0xE666], "-12345.*, which is no count"),
        ("f64", [0x7FF0, 0, 0, 0], "inf, which is no count"),
        ("f32", [0x4B80, 0x0000], r"1677721\d ticks are more than it can say exactly"),
        ("u64", [0xFFFF] * 4, "more than it can say exactly"),
    ],
)
def test_registers_that_hold_no_count_are_refused(kind: str, registers: list[int], cause: str) -> None:
    with pytest.raises(BadRegisters, match=cause):
        one_count(Number(address=2, type=kind), registers, "big")  # type: ignore[arg-type]


def one_count(number: Number, registers: list[int], order: str) -> int | None:
    """The index of a record of two registers of time and then this number."""
    archive = Archive(
        address=0, capacity=1, record_registers=2 + len(registers), newest=Number(address=0, type="u16"),
        stored=Number(address=0, type="u16"), newest_at=Instant(address=0, type="unix_u32"),
        at=Instant(address=0, type="unix_u32"), index=number,
    )  # fmt: skip
    return RecordDecoder(archive, order).records([Words(0, [0, 0, *registers], order)])[0].index  # type: ignore[arg-type]


@pytest.mark.parametrize("order", ["big", "little"])
def test_a_clock_of_decimal_digits_is_the_instant_that_it_shows(order: str) -> None:
    """26-10-01 04:30:59 in winter time of Central Europe."""
    instant = Instant(address=5, type="bcd_ymdhms", utc_offset_s=3600)
    at_s = int(datetime(2026, 10, 1, 3, 30, 59, tzinfo=UTC).timestamp())
    assert instant_words(at_s, instant, order) == [0x2610, 0x0104, 0x3059]  # type: ignore[arg-type]
    assert instant_s(Words(5, [0x2610, 0x0104, 0x3059], order), instant) == at_s  # type: ignore[arg-type]
    for wrong in ([0x2610, 0x0124, 0x3059], [0x2610, 0x01FF, 0x3059], [0, 0, 0]):
        with pytest.raises(BadRegisters, match="register 5"):
            instant_s(Words(5, wrong, order), instant)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "put", "cause"),
    [
        ("shows = 300", "shows = 200", "window.shows is 200; allowed: 300"),
        ("records = 8", "records = 80", "a page of the archive has more than 100 registers"),
        ('newest = { address = 14, type = "u16" }', "", "`newest` is for order"),
        ("unit_s = 60", "unit_s = 60\nfactor = 2", "factor"),
        ('type = "u16"\nunit_s', 'type = "u32"\nunit_s', "function 6 writes one register"),
        ("pause_s = 0.02", "pause_s = -1", "pause_s"),
    ],
)
def test_a_map_that_contradicts_itself_is_refused(tmp_path: Path, found: str, put: str, cause: str) -> None:
    text = (files("collectors.modbus_maps") / "paged_convertor.toml").read_text()
    assert text.count(found) == 1
    (tmp_path / "own.toml").write_text(text.replace(found, put))
    with pytest.raises(MapError, match=cause):
        register_map(str(tmp_path / "own.toml"))


def test_a_map_that_is_not_there_or_is_wrong_says_so(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(
        MapError, match=r"allowed: flow_computer, hourly_log, paged_convertor, pulse_recorder, or the path of a \.toml file"
    ):
        register_map("nonsense")
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('title = "x"\nword_order = "middle"\n')
    with pytest.raises(MapError, match="word_order"):
        register_map(str(wrong))
