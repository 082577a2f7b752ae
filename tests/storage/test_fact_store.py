"""One contract for every fact store: what it keeps, in what order, and what it refuses."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rocksdict import Options, Rdict

from metering.facts import (
    FACT_TYPES,
    AnyFact,
    CalorificValue,
    GatewayStatus,
    Readings,
    Registered,
    Tick,
    meter_point_of,
)
from metering.limits import FIRST_GAS_DAY, LAST_GAS_DAY
from metering.wire import Entry, decode_fact, encode_fact
from storage.fact_store import FactStore, MemoryFactStore, OffsetGap, fact_store_path, read_fact_store
from storage.fact_store_rocksdb import RocksFactStore
from storage.sqlite import StoreError
from tests.metering.any_fact import of_kind

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
Make = Callable[[Path], FactStore]
MAKERS: list[Make] = [lambda _: MemoryFactStore(), RocksFactStore]


@pytest.fixture(params=MAKERS, ids=["memory", "rocksdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FactStore]:
    made = request.param(tmp_path / "facts.rocksdb")
    yield made
    made.close()


def reading(point: str, *index: object, received_at: datetime | None = NOON) -> Readings:
    day = date(2026, 1, 1)
    return Readings(
        received_at=received_at, meter_point=point, meter="m", gas_day=day, first_at=NOON, interval_s=3600, index=index
    )


def calorific(ldz: str, day: int, received_at: datetime = NOON) -> CalorificValue:
    return CalorificValue(received_at=received_at, ldz=ldz, gas_day=date(2026, 1, day), mj_per_m3=Decimal("39.50"))


def test_an_empty_store_begins_at_offset_0(store: FactStore) -> None:
    assert store.next_offset() == 0
    assert store.points() == []
    assert store.of_point("1") == []
    assert store.calorific_values(["EA"]) == []


def test_facts_come_back_by_meter_point_in_order_with_their_received_at(store: FactStore) -> None:
    late, early = NOON + timedelta(microseconds=1), NOON
    first, second = reading("1", 1, 2, received_at=late), reading("1", 2, 3, received_at=early)
    third = reading("1", 1, None, "x", 1.5, [2])
    store.append(0, [first, reading("2", 9, 9), second])
    store.append(1, [third])
    assert store.of_point("1") == [first, second, third]
    assert store.points() == ["1", "2"]


def test_copies_are_all_kept(store: FactStore) -> None:
    store.append(0, [reading("1", 1, 2), reading("1", 1, 2)])
    store.append(1, [reading("1", 1, 2)])
    assert store.of_point("1") == [reading("1", 1, 2)] * 3


def test_frames_before_an_offset_alone(store: FactStore) -> None:
    for offset in range(4):
        store.append(offset, [reading("1", offset, 9), calorific("EA", offset + 1)])
    assert store.of_point("1", before_offset=2) == [reading("1", 0, 9), reading("1", 1, 9)]
    assert store.calorific_values(["EA"], before_offset=1) == [calorific("EA", 1)]
    assert store.of_point("1", before_offset=0) == []


def test_calorific_values_of_several_ldzs_stand_in_the_order_of_the_log(store: FactStore) -> None:
    store.append(0, [calorific("SE", 1), calorific("EA", 1), calorific("WM", 1)])
    store.append(1, [calorific("EA", 2), calorific("SE", 2)])
    found = store.calorific_values(["EA", "SE", "EA", "none"])
    assert found == [calorific("SE", 1), calorific("EA", 1), calorific("EA", 2), calorific("SE", 2)]


def test_what_is_left_out_of_a_frame_is_gone_from_there_alone(store: FactStore) -> None:
    out, stays = (Entry(NOON, encode_fact(fact), fact) for fact in (reading("P1", 1, 2), reading("P1", 2, 3)))
    store.append_all([(0, [out, stays]), (1, [out])])
    store.leave_out(0, [out])
    store.leave_out(0, [out])
    store.leave_out(5, [out])
    assert store.of_point("P1") == [reading("P1", 2, 3), reading("P1", 1, 2)]
    assert store.next_offset() == 2


def test_a_frame_without_facts_moves_the_offset(store: FactStore) -> None:
    store.append(0, [])
    store.append(1, [Tick(received_at=NOON, now=NOON)])
    status = GatewayStatus(received_at=NOON, gateway="g", backlog=0, clock_synchronised=True, version="1")
    store.append(2, [status])
    assert store.next_offset() == 3
    assert store.points() == []


def test_a_frame_that_comes_again_changes_nothing(store: FactStore) -> None:
    store.append(0, [reading("1", 1, 2)])
    store.append(1, [reading("1", 2, 3)])
    store.append(0, [reading("1", 1, 2)])
    store.append(1, [])
    assert store.of_point("1") == [reading("1", 1, 2), reading("1", 2, 3)]
    assert store.next_offset() == 2


def test_a_gap_is_refused_and_changes_nothing(store: FactStore) -> None:
    store.append(0, [reading("1", 1, 2)])
    with pytest.raises(OffsetGap, match="frame 1 is missing"):
        store.append(2, [reading("1", 2, 3)])
    assert store.next_offset() == 1
    assert store.of_point("1") == [reading("1", 1, 2)]


def test_frames_together_are_as_frames_one_by_one_also_where_some_are_there(store: FactStore) -> None:
    store.append(0, [reading("1", 1, 2)])
    store.append_all([(0, [reading("1", 1, 2)]), (1, [reading("2", 3, 4)]), (2, []), (3, [reading("1", 2, 3)])])
    assert store.next_offset() == 4
    assert store.of_point("1") == [reading("1", 1, 2), reading("1", 2, 3)]
    assert store.of_point("1", 3) == [reading("1", 1, 2)]
    store.append_all([])
    assert store.next_offset() == 4


def test_of_frames_with_a_gap_among_them_none_is_kept(store: FactStore) -> None:
    with pytest.raises(OffsetGap, match="frame 1 is missing"):
        store.append_all([(0, [reading("1", 1, 2)]), (2, [reading("1", 2, 3)])])
    assert store.next_offset() == 0
    assert store.points() == []
    store.append(0, [reading("1", 7, 8)])
    assert store.of_point("1") == [reading("1", 7, 8)]


def test_a_fact_without_received_at_is_refused_with_the_whole_frame(store: FactStore) -> None:
    with pytest.raises(ValueError, match="fact 1 of frame 0 has no received_at"):
        store.append(0, [reading("1", 1, 2), reading("2", 1, 2, received_at=None)])
    assert store.next_offset() == 0
    assert store.points() == []


def test_any_text_names_a_meter_point(store: FactStore) -> None:
    names = ["", " ", "a\x00b", "'; DROP TABLE fact; --", "é", "e\u0301", "\U0001f525", "A", "a"]
    store.append(0, [reading(name, number, 9) for number, name in enumerate(names)])
    for number, name in enumerate(names):
        assert store.of_point(name) == [reading(name, number, 9)]
    assert store.points() == sorted(names)


POINTS, LDZS = ["1", "2", "é"], ["EA", "SE"]
INSTANTS = st.integers(-(10**6), 10**6).map(lambda us: NOON + timedelta(microseconds=us))
ENTRIES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 2**70), st.text(max_size=3), st.floats(allow_nan=False, allow_infinity=False)
)
REGISTERED = st.builds(
    Registered,
    received_at=INSTANTS,
    meter_point=st.sampled_from(POINTS),
    gas_day=st.dates(FIRST_GAS_DAY, LAST_GAS_DAY),
    users=st.just(("u",)),
    ldz=st.sampled_from(LDZS),
    annual_quantity_kwh=st.decimals(0, 10**9, places=3),
    equipment=st.text(min_size=1, max_size=3),
)
READINGS = st.builds(
    lambda point, index, at: msgspec.structs.replace(reading(point, *index), received_at=at),
    st.sampled_from(POINTS),
    st.lists(ENTRIES.filter(lambda value: type(value) is not int or value < 2**63), max_size=4),
    INSTANTS,
)
VALUES = st.builds(calorific, st.sampled_from(LDZS), st.integers(1, 31), INSTANTS)
OTHERS = st.one_of(*(of_kind(kind) for kind in FACT_TYPES if "meter_point" in kind.__struct_fields__)).map(
    lambda fact: msgspec.structs.replace(fact, meter_point=POINTS[0], received_at=fact.received_at or NOON)  # type: ignore[arg-type]
)
FRAMES = st.lists(st.lists(st.one_of(REGISTERED, READINGS, VALUES, OTHERS), max_size=4), max_size=8)


def as_packed(fact: AnyFact) -> AnyFact:
    """The fact as the wire format spells it."""
    return decode_fact(encode_fact(fact), fact.received_at)


@settings(max_examples=60, deadline=None)
@given(FRAMES, st.data())
def test_any_store_is_a_plain_list_of_facts(frames: list[list[AnyFact]], data: st.DataObject) -> None:
    deliveries = [n for n in range(len(frames)) for n in range(data.draw(st.integers(0, n)), n + 1)]
    before = data.draw(st.one_of(st.none(), st.integers(0, len(frames) + 1)))
    with tempfile.TemporaryDirectory() as directory:
        for make in MAKERS:
            store = make(Path(directory) / "facts.rocksdb")
            for offset in deliveries:
                store.append(offset, frames[offset])
            flat = [as_packed(fact) for frame in frames[:before] for fact in frame]
            for point in POINTS:
                assert store.of_point(point, before) == [fact for fact in flat if meter_point_of(fact) == point]
            values = [fact for fact in flat if isinstance(fact, CalorificValue)]
            assert store.calorific_values(LDZS, before) == values
            assert store.next_offset() == len(frames)
            store.close()


def test_a_folder_a_partition() -> None:
    assert fact_store_path(Path("state"), 3) == Path("state/facts-00003.rocksdb")


def test_what_was_appended_is_there_after_opening_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "facts.rocksdb"
    store = RocksFactStore(path)
    store.append(0, [reading("1", 1, 2)])
    store.close()
    again = RocksFactStore(path)
    again.append(1, [reading("1", 2, 3)])
    assert again.of_point("1") == [reading("1", 1, 2), reading("1", 2, 3)]
    again.close()


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from tests.storage.test_fact_store import RocksFactStore, reading
store = RocksFactStore(Path(sys.argv[1]))
offset = store.next_offset()
while True:
    store.append(offset, [reading(str(number), offset, 9) for number in range(3)])
    offset += 1
    print(offset, flush=True)
"""


def test_kill_9_loses_no_frame_and_leaves_none_half_done(tmp_path: Path) -> None:
    path = tmp_path / "facts.rocksdb"
    for lines in (1, 40, 400):
        with subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            acknowledged = [int(writer.stdout.readline()) for _ in range(lines)][-1]
            os.kill(writer.pid, signal.SIGKILL)
        store = RocksFactStore(path)
        assert store.next_offset() >= acknowledged
        for point in ("0", "1", "2"):
            assert store.of_point(point) == [reading(point, n, 9) for n in range(store.next_offset())]
        store.close()


def test_it_is_read_beside_its_worker_and_nothing_is_written_there(tmp_path: Path) -> None:
    path = tmp_path / "facts.rocksdb"
    store = RocksFactStore(path)
    for offset in range(200):
        if offset == 100:  # what there is stands in a sorted file from now on, what comes in the log
            store.close()
            store = RocksFactStore(path)
        store.append(offset, [reading(str(number), offset, 9) for number in range(3)])
    before = {each: each.stat().st_mtime_ns for each in path.iterdir()}
    view = read_fact_store(path)
    after = {each: each.stat().st_mtime_ns for each in path.iterdir()}
    store.append(200, [reading("1", 200, 9)])
    assert view.of_point("1") == [reading("1", n, 9) for n in range(200)]
    assert view.points() == ["0", "1", "2"]
    with pytest.raises(StoreError, match=r"facts\.rocksdb: cannot be written"):
        view.append(200, [reading("1", 200, 9)])
    view.close()
    assert after == before
    assert {*path.iterdir()} == {*before}
    store.close()


def test_one_that_is_not_there_is_not_made_for_reading(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"facts\.rocksdb: cannot be read"):
        read_fact_store(tmp_path / "facts.rocksdb")
    assert not (tmp_path / "facts.rocksdb").exists()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "facts.rocksdb"
    with subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(StoreError, match=r"facts\.rocksdb: in use by another process"):
            RocksFactStore(path)
        writer.kill()


def test_one_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "facts.rocksdb"
    RocksFactStore(path).close()
    with Rdict(str(path), Options(raw_mode=True)) as db:
        db[b"\0version"] = b"\x07"
    with pytest.raises(StoreError, match=r"facts\.rocksdb: of version 7, and this program reads version 1; remove it"):
        RocksFactStore(path)
    with pytest.raises(StoreError, match=r"facts\.rocksdb: of version 7"):
        read_fact_store(path)


def test_another_database_is_no_fact_store(tmp_path: Path) -> None:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    Rdict(str(tmp_path / "other"), options).close()
    with pytest.raises(StoreError, match="other: no fact store"):
        read_fact_store(tmp_path / "other")


@pytest.mark.parametrize("names", ["CURRENT", "MANIFEST*", "*.sst"])
def test_one_that_is_damaged_is_refused_by_name(tmp_path: Path, names: str) -> None:
    path = tmp_path / "facts.rocksdb"
    store = RocksFactStore(path)
    store.append(0, [reading(str(number), 1, 9) for number in range(3000)])
    store.close()
    RocksFactStore(path).close()  # what stood in its log stands in a file now
    for each in path.glob(names):
        each.write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(StoreError, match=r"facts\.rocksdb: cannot be (opened|read)"):
        RocksFactStore(path).of_point("7")
    with pytest.raises(StoreError, match=r"facts\.rocksdb: cannot be read"):
        read_fact_store(path).of_point("7")


def test_a_file_is_no_fact_store(tmp_path: Path) -> None:
    path = tmp_path / "facts.rocksdb"
    path.write_bytes(b"no folder" * 1000)
    with pytest.raises(StoreError, match=r"facts\.rocksdb: cannot be opened"):
        RocksFactStore(path)
    with pytest.raises(StoreError, match=r"facts\.rocksdb: cannot be read"):
        read_fact_store(path)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/facts\.rocksdb: cannot be opened"):
        RocksFactStore(tmp_path / "file" / "facts.rocksdb")
