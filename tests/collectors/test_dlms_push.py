"""Meters that push: real connections, a real outbox; what comes is on disk before it is confirmed, and is the meter's truth."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.dlms_data import NULL, Data, Kind, array, encode, octet_string, structure
from collectors.dlms_notification import BadNotification, Sender, Stranger, facts_of, sent_by
from collectors.dlms_objects import CLOCK_TIME, time_of
from collectors.dlms_push import DlmsPush, sender_of
from collectors.dlms_xdlms import DataNotification, GetRequest, Wanted
from collectors.outbox import Outbox, OutboxError
from metering.facts import Alarm, AnyFact, PollFailed, Readings
from simulators.dlms_pusher import LAYOUT, DlmsPusher
from simulators.dlms_side import TITLE
from simulators.faults import Reports
from tests.collectors.test_dlms_poll import DAY, DAYS, KEYS, SITE, Rig, boundaries
from tests.collectors.test_dlms_reader import MAP, map_file
from tests.patience import patient

CODES = ["0-0:1.0.0", "0-0:96.10.1", "7-0:13.0.0", "7-0:3.0.0"]
SCALER = -len(str(SITE.m3_per_tick).partition(".")[2])
STATUS = 'status = "0-0:96.10.1"\nstatus_bits = ["clock_invalid", "tamper", "battery_low"]\n'
PUSH = MAP + STATUS + f"[push]\n{LAYOUT}\ncolumns = {CODES}\nscaler = {SCALER}\n"
CIPHERED = MAP + STATUS + 'keys_file = "keys"\nsystem_title = "4741544557415931"\n'
CIPHERED += f"[push]\n{LAYOUT}\ncolumns = {CODES}\nscaler = {SCALER}\n"


@dataclass
class Meter:
    """A meter of the configuration."""

    map: str
    sender: str = "DRY"
    host: str | None = None
    meter_point: str = "MP1"
    meter: str = "M1"


class Listening:
    """A listener with its outbox."""

    def __init__(self, folder: Path, rig: Rig, *meters: Meter) -> None:
        self.rig = rig
        self.outbox = Outbox(folder / "outbox.sqlite", "site-gateway-1")
        self.evidence: list[tuple[str, date, bytes]] = []
        self.push = DlmsPush(meters, self.outbox, lambda: rig.now, days=DAYS, evidence=self._keep)
        self.port = 0

    def _keep(self, meter: str, gas_day: date, frames: Any) -> None:
        self.evidence.extend((meter, gas_day, frame.octets) for frame in frames)

    def pusher(self, **how: Any) -> DlmsPusher:
        return DlmsPusher(self.rig.side, "127.0.0.1", self.port, **how)

    def facts(self) -> list[AnyFact]:
        return [stored.fact for stored in self.outbox.pending(1000)]


def listening(there: Listening, work: Callable[[Listening], Awaitable[None]]) -> None:
    async def whole() -> None:
        there.port = await there.push.listen("127.0.0.1", 0)
        try:
            await work(there)
        finally:
            await there.push.close()
            there.outbox.close()

    asyncio.run(asyncio.wait_for(whole(), patient(20)))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(patient(10)):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_days_rows_are_on_disk_when_they_are_confirmed(tmp_path: Path) -> None:
    rig = Rig()
    first, last = boundaries(DAY)
    rig.now = last

    async def work(there: Listening) -> None:
        assert await there.pusher().push(first, last, patient(5))
        before, day, after = there.facts()
        assert isinstance(day, Readings)
        assert (day.gas_day, day.meter_point, day.meter, day.clock_offset_s) == (DAY, "MP1", "M1", None)
        assert (day.first_at, day.interval_s) == (first, 3600)
        assert day.index == tuple(rig.meter.true_index_at(first + n * timedelta(hours=1)) for n in range(25))
        assert day.reference_index is not None
        assert (day.reference_index.start, day.reference_index.end) == (day.index[0], day.index[-1])
        assert [(fact.gas_day, len(fact.index)) for fact in (before, after) if isinstance(fact, Readings)] == [
            (DAY - timedelta(days=1), 1),
            (DAY + timedelta(days=1), 1),
        ]
        assert {gas_day for _, gas_day, _ in there.evidence} == {fact.gas_day for fact in (before, day, after)}  # type: ignore[union-attr]
        assert there.push.counters.readings == 27

    listening(Listening(tmp_path, rig, Meter(map_file(tmp_path, PUSH))), work)


def test_ciphered_notifications_need_the_meters_keys(tmp_path: Path) -> None:
    """The tag has to hold, and nothing is taken in the clear of a meter that has keys."""
    rig = Rig()
    first, last = boundaries(DAY)

    async def work(there: Listening) -> None:
        await there.pusher(keys=KEYS, confirmed=False).push(first, last, 0.01)
        await until(lambda: len(there.facts()) == 3)
        sound = there.pusher(keys=KEYS).notification(first, last)
        for at in (13, 15, 40, -1):
            await there.pusher().send(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 if at >= 0 else len(sound) :], 0.01)
        await until(lambda: there.push.counters.rejected == 4)
        await there.pusher().push(first, last, 0.01)
        await there.pusher(keys=KEYS, title=b"DRY\0\0\0\0\x02").push(first, last, 0.01)
        await until(lambda: there.push.counters.strangers == 2)
        rejected = [fact.reason for fact in there.facts() if isinstance(fact, PollFailed)]
        assert len(rejected) == 4
        assert rejected.count("pushed: the authentication tag does not hold") == 3
        assert sum(isinstance(fact, Readings) for fact in there.facts()) == 3

    listening(Listening(tmp_path, rig, Meter(map_file(tmp_path, CIPHERED), TITLE.hex())), work)


def test_who_is_none_of_ours_gets_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    first, last = boundaries(DAY)

    async def work(there: Listening) -> None:
        assert not await there.pusher().push(first, last, 0.2)
        assert not await there.pusher().send(GetRequest(1, Wanted(CLOCK_TIME)).encode(), 0.01)
        reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
        await until(lambda: there.push.counters.strangers == 3)
        assert there.facts() == []

    listening(Listening(tmp_path, rig, Meter(map_file(tmp_path, PUSH), "another")), work)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "DLMS push: 127.0.0.1 sends what is not of our meters, and is not taken: "
        "a notification of 3 values, in the clear, as 'DRY'"
    ]


def test_a_meter_that_pushes_from_another_address(tmp_path: Path) -> None:
    rig = Rig()
    first, last = boundaries(DAY)

    async def work(there: Listening) -> None:
        assert not await there.pusher().push(first, last, 0.05)
        await until(lambda: there.push.counters.strangers)
        assert there.facts() == []

    listening(Listening(tmp_path, rig, Meter(map_file(tmp_path, PUSH), host="192.0.2.1")), work)


def test_whoever_forges_a_meter_from_another_address_is_a_stranger(tmp_path: Path) -> None:
    """A system title is no secret: what has one, and a seal that does not hold, is not that meter's failure."""
    rig = Rig()
    first, last = boundaries(DAY)

    async def work(there: Listening) -> None:
        forged = there.pusher(keys=KEYS).notification(first, last)
        await there.pusher().send(forged[:-1] + bytes([forged[-1] ^ 1]), 0.01)
        await until(lambda: there.push.counters.strangers == 1)
        assert there.facts() == []

    listening(Listening(tmp_path, rig, Meter(map_file(tmp_path, CIPHERED), TITLE.hex(), host="192.0.2.1")), work)


def test_what_cannot_be_used_is_told_and_confirmed(tmp_path: Path) -> None:
    rig = Rig()

    async def work(there: Listening) -> None:
        pusher = there.pusher()
        nothing = DataNotification(0, None, structure(octet_string(b"DRY"), NULL, array()), 0x40)
        assert await pusher.send(nothing.encode(), patient(5))
        (fact,) = there.facts()
        assert fact == PollFailed(
            meter_point="MP1",
            meter="M1",
            gas_day=DAY + timedelta(days=1),
            reason="pushed: 0 rows; allowed: 1 to 5000",
            attempts=1,
        )

    listening(Listening(tmp_path, rig, Meter(map_file(tmp_path, PUSH))), work)


def test_nothing_is_confirmed_while_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    first, last = boundaries(DAY)
    monkeypatch.setattr("collectors.store.DISK_RETRY_S", 0.05)

    async def work(there: Listening) -> None:
        put = there.outbox.put

        def refuses(*_args: Any) -> None:
            raise OutboxError("no room")

        monkeypatch.setattr(there.outbox, "put", refuses)
        waiting = asyncio.create_task(there.pusher().push(first, last, patient(10)))
        await until(lambda: there.push.counters.store.disk_refuses)
        assert not waiting.done()
        monkeypatch.setattr(there.outbox, "put", put)
        assert await waiting
        assert len(there.facts()) == 3

    listening(Listening(tmp_path, rig, Meter(map_file(tmp_path, PUSH))), work)


def test_an_alarm_is_told_once(tmp_path: Path) -> None:
    first, last = boundaries(DAY)
    rig = Rig(SITE, Reports(from_=first, until=last, status="tamper"))

    async def work(there: Listening) -> None:
        assert await there.pusher().push(first, first + timedelta(hours=5), patient(5))
        assert await there.pusher().push(first + timedelta(hours=5), last, patient(5))
        assert [fact.kind for fact in there.facts() if isinstance(fact, Alarm)] == ["tamper"]
        assert all(fact.status == ("tamper",) for fact in there.facts() if isinstance(fact, Readings))

    listening(Listening(tmp_path, rig, Meter(map_file(tmp_path, PUSH))), work)


def test_many_meters_and_one_that_says_nothing(tmp_path: Path) -> None:
    rig = Rig()
    first, last = boundaries(DAY)

    async def work(there: Listening) -> None:
        _, silent = await asyncio.open_connection("127.0.0.1", there.port)
        assert all(await asyncio.gather(*(there.pusher().push(first, last, patient(10)) for _ in range(30))))
        silent.close()
        assert len(there.facts()) == 90

    listening(Listening(tmp_path, rig, Meter(map_file(tmp_path, PUSH))), work)


# What a notification says, without a line.

NOW = 'objects = ["0-0:42.0.0", "", "7-0:13.0.0"]\n'


def the_sender(folder: Path, text: str) -> Sender:
    return sender_of(Meter(map_file(folder, text)))


def test_the_value_of_now_by_when_it_was_sent(tmp_path: Path) -> None:
    sender = the_sender(tmp_path, f'{MAP}zone = "Europe/London"\n[push]\n{NOW}')
    rig = Rig()
    clock = rig.side.pushed(rig.now, rig.now).items[1]
    time = Rig().side  # noqa: F841

    values = structure(Data(Kind.VISIBLE_STRING, "DRY"), NULL, Data(Kind.DOUBLE_LONG_UNSIGNED, 1234))
    found, notification = sent_by(DataNotification(1, time_of(clock), values).encode(), [sender], "192.0.2.7")
    (fact,) = facts_of(found, notification, DAYS)
    assert (fact.at or (fact.first_at,), fact.index, fact.unconverted) == ((rig.now,), (1234,), None)
    with pytest.raises(BadNotification, match="without a time"):
        facts_of(sender, DataNotification(1, None, values), DAYS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('objects = ["7-0:13.0.0"]', "without 0-0:42.0.0"),
        ('objects = ["0-0:42.0.0"]', "push.objects: without 7-0:13.0.0"),
        ('objects = ["0-0:42.0.0", "7-0:99.99.2"]\ncolumns = ["7-0:13.0.0"]', "push.columns: without 0-0:1.0.0"),
        ('objects = ["13"]', "push.objects: found '13', which is no OBIS code"),
        (f"{NOW}scaler = 99", "push.scaler: found 99"),
        (f"{NOW}period_s = 0", "push.period_s: found 0"),
    ],
)
def test_a_layout_that_cannot_be_used_says_why(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words.replace("?", r"\?")):
        the_sender(tmp_path, f"{MAP}[push]\n{text}\n")


def test_a_meter_whose_settings_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no table `push`"):
        the_sender(tmp_path, MAP)
    with pytest.raises(ValueError, match="its system title, 16 hexadecimal digits"):
        the_sender(tmp_path, CIPHERED)


def test_rows_that_contradict_each_other_are_no_readings(tmp_path: Path) -> None:
    sender, rig = the_sender(tmp_path, PUSH), Rig()
    first, _ = boundaries(DAY)
    name, clock, rows = rig.side.pushed(first, first).items
    (row,) = rows.items
    other = structure(*row.items[:2], Data(Kind.DOUBLE_LONG_UNSIGNED, 1), row.items[3])
    twice = DataNotification(1, None, structure(name, clock, array(row, row)))
    assert [len(fact.index) for fact in facts_of(sender, twice, DAYS)] == [1, 1]
    with pytest.raises(BadNotification, match="that differ"):
        facts_of(sender, DataNotification(1, None, structure(name, clock, array(row, other))), DAYS)
    with pytest.raises(BadNotification, match="2 values; the map has 3"):
        facts_of(sender, DataNotification(1, None, structure(name, clock)), DAYS)


_scalars = st.one_of(
    st.just(NULL),
    st.integers(0, 2**32 - 1).map(lambda n: Data(Kind.DOUBLE_LONG_UNSIGNED, n)),
    st.integers(0, 2**64 - 1).map(lambda n: Data(Kind.LONG64_UNSIGNED, n)),
    st.binary(min_size=12, max_size=12).map(octet_string),
    st.floats(width=32).map(lambda n: Data(Kind.FLOAT32, n)),
)


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Sender:
    return the_sender(tmp_path_factory.mktemp("maps"), PUSH)


@given(st.recursive(_scalars, lambda inner: st.lists(inner, max_size=5).map(lambda items: structure(*items)), max_leaves=30))
def test_whatever_a_meter_pushes_there_are_readings_or_a_reason(sender: Sender, data: Data) -> None:
    for values in (data, structure(octet_string(b"DRY"), NULL, data)):
        with contextlib.suppress(Stranger, BadNotification):
            facts_of(*sent_by(DataNotification(1, None, values).encode(), [sender], "192.0.2.7"), DAYS)
    with contextlib.suppress(Stranger, BadNotification):
        sent_by(b"\x0f" + encode(data), [sender], "192.0.2.7")
