"""The gateway over real sockets and a real outbox: many meters, dead ones among them, restarts, a full disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from collectors.clock import SystemClock
from collectors.gateway import Gateway
from collectors.modbus_maps import register_map
from collectors.outbox import Cap, Outbox, OutboxError
from metering.facts import GatewayStatus, PollFailed, Readings
from metering.gasday import to_datetime, to_us
from simulators.clock import SteppedClock
from simulators.faults import Corrupt, Dead, NotLogged, Silence
from simulators.modbus_server import ModbusServer
from simulators.serve import ServedGateway, ServedMeter, ServedPolling, Service, serve
from tests.collectors.small_disk import small_disk
from tests.collectors.virtual import (
    DAY,
    DAYS,
    FIRST,
    START,
    Shifted,
    days_read,
    eventually,
    site,
    stored,
    virtual_run,
    virtually,
)
from tests.patience import patient

MAP = register_map("hourly_log")


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "outbox.sqlite", "gateway-1")
    yield opened
    opened.close()


def test_each_day_is_read_once_soon_after_its_end_and_is_what_the_meter_says(outbox: Outbox) -> None:
    virtually([site(1)], outbox, hours=24 * 4 + 2)
    read = days_read(outbox, "MP1")
    assert [day for day, _ in read] == [23, 24, 25, 26]
    for day, put_at in read:
        end = to_datetime(DAYS.end_us(date(2026, 10, day).toordinal()))
        assert timedelta(minutes=2) <= put_at - end <= timedelta(minutes=7)
    meter = site(1).build(DAYS)
    batches = [fact for fact in stored(outbox) if isinstance(fact, Readings)]
    assert [len(batch.index) for batch in batches] == [25, 26, 25, 25]  # the Day of the 24th has 25 hours
    for batch in batches:
        assert batch.index == tuple(meter.true_index_at(at) for at in batch.instants())
        assert batch.clock_offset_s == 0
        assert (batch.gateway, batch.outbox) == ("gateway-1", outbox.id)
    assert [batch.sequence for batch in batches] == [0, 1, 2, 3]


def test_a_dead_meter_beside_a_live_one_gives_failed_polls_and_no_reading(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = virtually([site(1), site(2, Dead())], outbox, hours=24 * 2 + 22)
    assert [day for day, _ in days_read(outbox, "MP1")] == [23, 24]
    assert days_read(outbox, "MP2") == []
    failed = [fact for fact in stored(outbox) if isinstance(fact, PollFailed)]
    assert {(fact.meter_point, fact.reason) for fact in failed} == {("MP2", "the connection was closed")}
    assert 6 <= len(failed) <= 20
    assert gateway.counters.away == {"MP2"}
    assert len([record for record in caplog.records if "cannot be read" in record.message]) == 1


def test_after_a_silence_the_log_is_fetched_and_one_line_says_so(outbox: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    quiet = Silence(from_=START + timedelta(hours=20), until=START + timedelta(hours=24 * 3 + 4))
    virtually([site(1, quiet)], outbox, hours=24 * 4 + 2)
    read = days_read(outbox, "MP1")
    assert [day for day, _ in read] == [25, 24, 23, 26]
    said = [record.message for record in caplog.records if record.name == "collectors.gateway"]
    assert [("cannot be read" in line, "is read again; 2 Days to fetch" in line) for line in said] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize("protocol", ["modbus_tcp", "iec62056_21"])
def test_a_log_that_is_shorter_than_what_is_owed_is_no_silence(
    protocol: str, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A fresh gateway owes 40 Days of a meter that was fitted at the start of the first."""
    caplog.set_level(logging.INFO, "collectors.gateway")
    fresh = msgspec.structs.replace(site(1), protocol=protocol)
    gateway = virtually([fresh], outbox, hours=24 * 2 + 2)
    assert [day for day, _ in days_read(outbox, "MP1")][-2:] == [23, 24]  # and perhaps the end of the Day before
    assert not [fact for fact in stored(outbox) if isinstance(fact, PollFailed)]
    assert not caplog.records
    assert gateway.counters.failed == 0
    assert gateway.counters.polls < 80
    past = {FIRST - n * DAY for n in range(1, 40)}
    settled = {day for day in past if DAYS.exit_close_out_us(day.toordinal()) < to_us(START)}
    assert settled <= outbox.done_days("M-1")


def test_readings_that_were_never_logged_are_null_and_asked_for_again_until_the_close_out(outbox: Outbox) -> None:
    lost = NotLogged(first_day=FIRST, last_day=FIRST)
    gateway = virtually([site(1, lost)], outbox, hours=24 * 8)
    (batch,) = [fact for fact in stored(outbox) if isinstance(fact, Readings) and fact.gas_day == FIRST]
    assert batch.index[0] is not None
    assert batch.index[-1] is not None
    assert set(batch.index[1:-1]) == {None}
    assert FIRST in outbox.done_days("M-1")
    assert gateway.counters.failed == 0


@pytest.mark.parametrize("how", ["wrong_check", "short"])
def test_a_spoiled_answer_is_asked_for_again_at_once(outbox: Outbox, how: str) -> None:
    virtually([site(1, Corrupt(every=4, how=how))], outbox, hours=24 * 3 + 2)  # type: ignore[arg-type]
    read = days_read(outbox, "MP1")
    assert [day for day, _ in read] == [23, 24, 25]
    assert not [fact for fact in stored(outbox) if isinstance(fact, PollFailed)]


def test_answers_that_are_always_spoiled_are_a_failed_poll_with_its_cause(outbox: Outbox) -> None:
    class Spoiled(ModbusServer):
        def answer(self, unit: int, function: int, data: bytes) -> bytes | None:
            answer = super().answer(unit, function, data)
            return answer and bytes((answer[0], answer[1] - 2)) + answer[2:-2]

    async def replace(service: Service) -> None:
        server = Spoiled({1: service.meters["site-1"]}, MAP, service._now)
        port = await server.listen()
        service.settings[:] = [served(1, port)]

    virtually([site(1)], outbox, hours=25, work=replace)
    failed = [fact for fact in stored(outbox) if isinstance(fact, PollFailed)]
    assert {(fact.meter_point, fact.reason, fact.attempts) for fact in failed} == {
        ("MP1", "short answer: 7 of 8 registers from 0 on", 3)
    }
    assert days_read(outbox, "MP1") == []


def served(number: int, port: int, timeout_s: float | None = None) -> ServedMeter:
    return ServedMeter(
        meter_point=f"MP{number}", meter=f"M-{number}", protocol="modbus", address=f"tcp://127.0.0.1:{port}", device=1,
        map="hourly_log", timeout_s=timeout_s,
    )  # fmt: skip


def test_a_restart_asks_again_for_what_is_missing_only(tmp_path: Path) -> None:
    first = Outbox(tmp_path / "outbox.sqlite", "gateway-1")
    virtually([site(1)], first, hours=24 * 2 + 2)
    first.close()
    again = Outbox(tmp_path / "outbox.sqlite", "gateway-1")
    virtually([site(1)], again, hours=24 * 4 + 2)
    read = days_read(again, "MP1")
    assert [day for day, _ in read] == [23, 24, 25, 26]
    assert [fact.sequence for fact in stored(again) if isinstance(fact, Readings)] == [0, 1, 2, 3]
    again.close()


def test_how_the_gateway_is_comes_at_its_start_and_every_day_in_virtual_time(outbox: Outbox) -> None:
    virtually([site(1)], outbox, hours=24 * 3 - 1)
    statuses = [entry for entry in outbox.pending(1000) if isinstance(entry.fact, GatewayStatus)]
    assert [entry.committed_at for entry in statuses] == [to_datetime(DAYS.start_us(FIRST.toordinal() + n)) for n in range(3)]
    assert all(isinstance(entry.fact, GatewayStatus) and entry.fact.clock_synchronised for entry in statuses)


def test_virtual_runs_are_the_same_each_time(tmp_path: Path) -> None:
    def run(name: str) -> list[str]:
        outbox = Outbox(tmp_path / name, "gateway-1")
        virtually([site(1, Corrupt(every=5)), site(2, Dead()), site(3)], outbox, hours=24 * 3 + 3)
        facts = [f"{entry.committed_at} {entry.fact!r}".replace(outbox.id, "") for entry in outbox.pending(10_000)]
        outbox.close()
        return sorted(facts)

    assert run("one") == run("two")


# In real time.

NOON = START + 4 * DAY + timedelta(hours=7)


def test_how_the_gateway_is_comes_at_its_start_and_every_hour(outbox: Outbox) -> None:
    async def main() -> None:
        clock = Shifted(NOON + timedelta(minutes=59, seconds=57))
        gateway = Gateway(ServedGateway(gateway="g", meters=()), clock, outbox, days=DAYS)
        running = asyncio.create_task(gateway.run())
        await eventually(lambda: outbox.backlog().facts == 2, 10)
        gateway.stop()
        await running

    asyncio.run(main())
    first, second = outbox.pending(10)
    assert first.committed_at < NOON + timedelta(hours=1) <= second.committed_at < NOON + timedelta(hours=1, seconds=40)
    assert isinstance(second.fact, GatewayStatus)
    assert (second.fact.backlog, second.fact.oldest_unsent_at) == (1, first.committed_at)


def test_a_mute_meter_does_not_slow_the_others_down_in_real_time(outbox: Outbox) -> None:
    async def main() -> None:
        clock = Shifted(NOON)
        meters = {n: site(n).build(DAYS) for n in range(1, 21)}
        mute = ModbusServer({1: site(0, Dead()).build(DAYS)}, MAP, clock.now, mute=True)
        servers = {n: ModbusServer({1: meter}, MAP, clock.now) for n, meter in meters.items()}
        settings = [served(0, await mute.listen(), timeout_s=30.0)]
        settings += [served(n, await server.listen()) for n, server in servers.items()]
        gateway = Gateway(ServedGateway(gateway="g", meters=tuple(settings)), clock, outbox, days=DAYS)
        running = asyncio.create_task(gateway.run())
        await eventually(lambda: gateway.counters.polls == 20, 10)
        assert len(mute.connections) == 1  # still waiting for its answer
        gateway.stop()
        await asyncio.wait_for(running, patient(2))
        for server in (mute, *servers.values()):
            await server.close()

    asyncio.run(main())
    assert {fact.meter_point for fact in stored(outbox) if isinstance(fact, Readings)} == {f"MP{n}" for n in range(1, 21)}


def test_meters_behind_one_address_are_asked_one_after_the_other(outbox: Outbox) -> None:
    async def main() -> None:
        now = START + DAY + timedelta(minutes=10)
        clock = SteppedClock(now)
        most = 0

        class Counting(ModbusServer):
            def answer(self, unit: int, function: int, data: bytes) -> bytes | None:
                nonlocal most
                most = max(most, len(self.connections))
                return super().answer(unit, function, data)

        server = Counting({n: site(n).build(DAYS) for n in range(1, 6)}, MAP, clock.now)
        address = f"tcp://127.0.0.1:{await server.listen()}"
        settings = [
            ServedMeter(meter_point=f"MP{n}", meter=f"M-{n}", protocol="modbus", address=address, device=n, map="hourly_log")
            for n in range(1, 6)
        ]
        gateway = Gateway(ServedGateway(gateway="g", meters=tuple(settings)), clock.join("g"), outbox, days=DAYS)
        assert await gateway.poll_once() == 0
        assert most == 1
        await server.close()

    asyncio.run(asyncio.wait_for(main(), patient(20)))
    assert len([fact for fact in stored(outbox) if isinstance(fact, Readings)]) == 5


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", size_mib=16) as mounted:
        yield mounted


def test_a_full_disk_stops_collecting_with_an_alarm_and_it_goes_on_by_itself(
    disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(disk / "outbox.sqlite", "gateway-1")
    filler = disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass

    async def main() -> None:
        now = START + 4 * DAY + timedelta(minutes=10)
        clock = SteppedClock(now)
        service = await serve([site(n) for n in range(1, 41)], clock.now)
        gateway = Gateway(service.gateway(), clock.join("g"), outbox, days=DAYS)
        fill()
        polling = asyncio.create_task(gateway.poll_once())
        await eventually(lambda: gateway.counters.disk_refuses, 10)
        assert outbox.backlog().facts == 0  # readable
        await asyncio.sleep(0.1)
        assert not polling.done()
        filler.unlink()
        assert await asyncio.wait_for(polling, patient(10)) == 0
        assert not gateway.counters.disk_refuses
        await service.close()

    asyncio.run(main())
    assert outbox.backlog().facts == 40
    outbox.close()
    alarms = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(alarms) == 1
    assert "the disk is full" in alarms[0].message


def intervals_read(outbox: Outbox) -> dict[int, int]:
    """How many readings of each Day (of the month) wait."""
    return {fact.gas_day.day: len(fact.index) for fact in stored(outbox) if isinstance(fact, Readings)}


def test_days_that_the_outbox_gave_up_are_asked_for_again_when_there_is_room_and_not_before(tmp_path: Path) -> None:
    """Kafka is away for four Days; then everything that waits leaves, and the meter's log fills what went."""
    with closing(Outbox(tmp_path / "outbox.sqlite", "gateway-1", Cap(max_bytes=800), DAYS)) as outbox:

        async def main() -> None:
            clock = SteppedClock(START)
            service = await serve([site(1)], clock.now)
            gateway = Gateway(service.gateway(), clock.join("gateway"), outbox, days=DAYS)
            with clock.join("end") as end:
                moving = asyncio.create_task(clock.run(expected=2))
                running = asyncio.create_task(gateway.run())
                await end.wait_until(START + timedelta(days=4, hours=12))
                assert intervals_read(outbox) == {23: 2, 24: 2, 25: 25, 26: 25}
                assert gateway.counters.polls == 5  # a Day each, and one before the log: nothing is asked for in vain
                outbox.acknowledge(entry.id for entry in outbox.pending(100))
                await end.wait_until(START + timedelta(days=5, hours=12))
                while set(clock.working()) > {"end"}:
                    await asyncio.sleep(0.01)
                gateway.stop()
                await running
                moving.cancel()
            await service.close()

        asyncio.run(asyncio.wait_for(main(), 60))
        assert intervals_read(outbox) == {23: 25, 24: 26, 27: 25}
        assert outbox.given_up().days_to_ask == 0


def test_a_restart_before_there_is_room_still_asks_again_afterwards(tmp_path: Path) -> None:
    def days_after(cap: Cap, acknowledge: bool, start: datetime) -> dict[int, int]:
        async def main() -> dict[int, int]:
            clock = SteppedClock(start)
            service = await serve([site(1)], clock.now)
            with closing(Outbox(tmp_path / "outbox.sqlite", "gateway-1", cap, DAYS)) as outbox:
                if acknowledge:
                    outbox.acknowledge(entry.id for entry in outbox.pending(100))
                await virtual_run(service.gateway(), clock, outbox, start + timedelta(hours=20))
                await service.close()
                return intervals_read(outbox)

        return asyncio.run(asyncio.wait_for(main(), 60))

    after_two_days = START + 2 * DAY + timedelta(minutes=1)
    assert days_after(Cap(max_bytes=300), False, after_two_days) == {23: 2, 24: 2}
    assert days_after(Cap(max_bytes=5000), True, after_two_days + timedelta(hours=21)) == {23: 25, 24: 26, 25: 25}


def test_when_the_outbox_turns_out_to_be_corrupt_the_meters_are_asked_again_for_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with closing(Outbox(path, "gateway-1", days=DAYS)) as outbox:

        async def main() -> None:
            clock = SteppedClock(START)
            service = await serve([site(n) for n in range(1, 4)], clock.now)
            gateway = Gateway(service.gateway(), clock.join("gateway"), outbox, days=DAYS)
            with clock.join("end") as end:
                moving = asyncio.create_task(clock.run(expected=2))
                running = asyncio.create_task(gateway.run())
                await end.wait_until(START + timedelta(days=2, hours=12))
                before = days_read(outbox, "MP1")
                damage(outbox, path)
                await end.wait_until(START + timedelta(days=3, hours=12))
                while set(clock.working()) > {"end"}:
                    await asyncio.sleep(0.01)
                gateway.stop()
                await running
                moving.cancel()
            await service.close()
            assert [day for day, _ in before] == [23, 24]

        asyncio.run(asyncio.wait_for(main(), 60))
        for point in ("MP1", "MP2", "MP3"):
            assert sorted(day for day, _ in days_read(outbox, point)) == [23, 24, 25]
        told = [fact for fact in stored(outbox) if isinstance(fact, GatewayStatus)]
        assert told[-1].files_set_aside == 1


def damage(outbox: Outbox, path: Path) -> None:
    """Spoil the file under the outbox, and let it find out."""
    outbox.put([PollFailed(meter_point="X", meter="X", gas_day=FIRST, reason="x" * 4000, attempts=1)] * 1200, START)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (size - 8192))
    with pytest.raises(OutboxError, match="corrupt"):
        outbox.pending(100_000)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"map": "nonsense"}, "meter M-1 of MP1: .*allowed: .*hourly_log"),
        ({"address": "udp://127.0.0.1:502"}, "meter M-1 of MP1: address: found .*allowed with modbus: tcp://host:port"),
        ({"protocol": "iec62056_21", "map": None}, "meter M-1 of MP1: "),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_the_meter(outbox: Outbox, change: dict[str, object], said: str) -> None:
    meter = msgspec.structs.replace(served(1, 502), **change)
    with pytest.raises(ValueError, match=said):
        Gateway(ServedGateway(gateway="g", meters=(meter,), polling=ServedPolling()), SystemClock(), outbox)
