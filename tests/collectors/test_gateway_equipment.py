"""The gateway and what equipment says beside readings: alarms, clocks; and readings of a Day that still runs."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from importlib import resources
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from collectors import gateway as gateway_module
from collectors.gateway import Gateway
from collectors.metrics import METRICS, values
from collectors.modbus_maps import RegisterMap, register_map
from collectors.outbox import Outbox
from collectors.publisher import PublisherCounters
from metering.determine import determine
from metering.facts import Alarm, AnyFact, CalorificValue, PollFailed, Readings
from metering.gasday import to_datetime, to_us
from metering.rules import Rules
from simulators.faults import AnyFault, ClockOffset, Dead, Reports, Silence
from simulators.meter import SimulatedMeter
from simulators.modbus_server import ModbusServer
from simulators.serve import ServedClocks, ServedPolling, Service
from simulators.sites import Site
from tests.collectors.virtual import DAY, DAYS, FIRST, START, days_read, site, stored, virtually

HOUR = timedelta(hours=1)
WITHIN = ServedPolling(within_day_s=4 * 3600)
MOVE = ServedClocks(set=True, step_max_s=20)


def alarms(outbox: Outbox) -> list[Alarm]:
    return [fact for fact in stored(outbox) if isinstance(fact, Alarm)]


def metrics(gateway: Gateway, outbox: Outbox) -> dict[str, int]:
    found = values(gateway.counters, PublisherCounters(), outbox)
    assert set(found) == {metric.name for metric in METRICS}
    return {name.removeprefix("dailyread_collect_"): value for name, value in found.items()}


def dlms(number: int, *faults: AnyFault) -> Site:
    return msgspec.structs.replace(site(number, *faults), protocol="dlms")


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "outbox.sqlite", "gateway-1")
    yield opened
    opened.close()


# Alarms.


def test_an_alarm_is_told_once_however_often_the_gateway_starts_again(tmp_path: Path) -> None:
    tampered = Reports(from_=START + 6 * HOUR, until=START + 24 * 9 * HOUR, status="tamper")
    for day in range(3):
        outbox = Outbox(tmp_path / "outbox.sqlite", "gateway-1")
        gateway = virtually([site(1, tampered)], outbox, hours=26, since=day * DAY)
        assert metrics(gateway, outbox)["meters_tamper"] == 1
        said = [(fact.kind, fact.at, fact.meter_point, fact.meter) for fact in alarms(outbox)]
        assert said == [("tamper", START + DAY, "MP1", "M-1")]
        outbox.close()


def test_alarms_of_one_meter_spoil_no_day_and_end_in_the_metrics_with_their_cause(outbox: Outbox) -> None:
    faults = [
        Reports(from_=START + n * HOUR, until=START + DAY, status=status)  # type: ignore[arg-type]
        for n, status in enumerate(("battery_low", "reed_switch", "bypass_open", "tamper"))
    ]
    gateway = virtually([site(1, *faults), site(2)], outbox, hours=24 * 3 + 2)
    assert sorted(fact.kind for fact in alarms(outbox)) == ["battery_low", "bypass_open", "reed_switch", "tamper"]
    assert [day for day, _ in days_read(outbox, "MP1")] == [day for day, _ in days_read(outbox, "MP2")] == [23, 24, 25]
    shown = metrics(gateway, outbox)
    assert [shown[f"meters_{kind}"] for kind in ("battery_low", "bypass_open", "reed_switch", "tamper")] == [0, 0, 0, 0]
    assert shown["alarms_total"] == 4


class NoStatus(ModbusServer):
    """Its register of the status cannot be read."""

    def answer(self, unit: int, function: int, data: bytes) -> bytes | None:
        first, count = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
        address = self.map.status.address
        return bytes((function | 0x80, 2)) if first <= address < first + count else super().answer(unit, function, data)


def test_a_status_that_cannot_be_read_spoils_no_day(outbox: Outbox) -> None:
    async def replace(service: Service) -> None:
        server = NoStatus({1: service.meters["site-1"]}, register_map("hourly_log"), service._now)
        (settings,) = service.settings
        service.settings[:] = [msgspec.structs.replace(settings, address=f"tcp://127.0.0.1:{await server.listen()}")]

    gateway = virtually([site(1)], outbox, hours=24 * 2 + 2, work=replace)
    assert [day for day, _ in days_read(outbox, "MP1")] == [23, 24]
    assert gateway.counters.failed == 0


# Clocks.


def test_a_clock_that_is_off_is_told_when_it_begins_and_when_it_ends(outbox: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    wrong = ClockOffset(from_=START + 6 * HOUR, until=START + 3 * DAY + 6 * HOUR, offset_s=-90)
    gateway = virtually([site(1, wrong)], outbox, hours=24 * 4 + 3)
    assert [(fact.kind, fact.detail, fact.at.day) for fact in alarms(outbox)] == [
        ("other", "its clock is 90.0 s behind; allowed: 60 s", 24),
        ("other", "its clock is right again: 0.0 s ahead", 27),
    ]
    offsets = [fact.clock_offset_s for fact in stored(outbox) if isinstance(fact, Readings)]
    assert offsets == [-90, -90, -90, 0]
    assert len([record for record in caplog.records if "its clock" in record.message]) == 2
    shown = metrics(gateway, outbox)
    assert (shown["clocks_off"], shown["clock_steps_total"]) == (0, 0)  # `set` is off unless configured


def test_a_clock_is_moved_in_small_steps_between_boundaries_until_it_is_right(outbox: Outbox) -> None:
    moves: list[tuple[datetime, datetime, datetime]] = []
    wrong = ClockOffset(from_=START, until=START + 99 * DAY, offset_s=90)

    async def watch(service: Service) -> None:
        meter = service.meters["site-1"]
        really_set = meter.set_clock

        def set_clock(shown: datetime, now: datetime) -> None:
            moves.append((now, meter.clock(now), shown))
            really_set(shown, now)

        meter.set_clock = set_clock  # type: ignore[method-assign]

    gateway = virtually([dlms(1, wrong)], outbox, hours=24 * 2 + 2, work=watch, meter_clocks=MOVE)
    assert len(moves) == 5  # 90 s in steps of 20 s
    assert metrics(gateway, outbox)["clock_steps_total"] == 5
    for now, before, after in moves:
        assert abs(before - after) <= timedelta(seconds=21)
        assert DAYS.day_of(to_us(before)) == DAYS.day_of(to_us(after)) == DAYS.day_of(to_us(now))
        assert before.replace(minute=0, second=0, microsecond=0) == after.replace(minute=0, second=0, microsecond=0)
        assert not to_datetime(DAYS.start_us(DAYS.day_of(to_us(now)))) + 29 * HOUR / 60 > now
    assert all(later[0] - earlier[0] >= HOUR for earlier, later in pairwise(moves))
    assert [fact.detail.split(":")[0] for fact in alarms(outbox)] == [
        "its clock is 90.0 s ahead; allowed",
        "its clock is right again",
    ]
    batches = {fact.gas_day: fact for fact in stored(outbox) if isinstance(fact, Readings)}
    assert batches[FIRST].index.count(None) == batches[FIRST + DAY].index.count(None) == 0


def test_a_meter_whose_clock_cannot_be_set_is_left_alone_with_one_line(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = ClockOffset(from_=START, until=START + 99 * DAY, offset_s=40)
    map_of = {"site-1": 'sets = ["interval"]\n'}

    async def refuse(service: Service) -> None:
        (served,) = service.settings
        path = Path(str(served.map))
        path.write_text(path.read_text() + map_of["site-1"])

    gateway = virtually([dlms(1, wrong)], outbox, hours=24 * 3, work=refuse, meter_clocks=MOVE)
    assert gateway.counters.clock_steps == 0
    assert [day for day, _ in days_read(outbox, "MP1")][-2:] == [23, 24]
    assert len([record for record in caplog.records if "cannot be set" in record.message]) == 1


def test_a_gateway_whose_own_clock_is_not_synchronised_judges_and_moves_no_clock(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "is_synchronised", lambda _clock: False)
    wrong = ClockOffset(from_=START, until=START + 99 * DAY, offset_s=90)
    gateway = virtually([dlms(1, wrong)], outbox, hours=24 * 2 + 2, meter_clocks=MOVE)
    assert alarms(outbox) == []
    assert {fact.clock_offset_s for fact in stored(outbox) if isinstance(fact, Readings)} == {None}
    shown = metrics(gateway, outbox)
    assert (shown["clocks_off"], shown["clock_steps_total"], shown["clock_unsynchronised"]) == (0, 0, 1)


# Within the Day (M4.6.1(b)).


def test_hourly_readings_come_every_four_hours_and_the_whole_day_after_its_end(outbox: Outbox) -> None:
    virtually([site(1)], outbox, hours=24 + 1, polling=WITHIN)
    meter = site(1).build(DAYS)
    put = [(entry.committed_at, entry.fact) for entry in outbox.pending(1000) if isinstance(entry.fact, Readings)]
    batches = [(put_at, fact) for put_at, fact in put if fact.gas_day == FIRST]
    assert [len(fact.index) for _, fact in batches] == [5, 9, 13, 17, 21, 25]
    for number, (put_at, fact) in enumerate(batches, 1):
        assert timedelta(minutes=2) <= put_at - (START + number * 4 * HOUR) <= timedelta(minutes=7)
        assert fact.index == tuple(meter.true_index_at(at) for at in fact.instants())
    assert outbox.done_days("M-1", FIRST) == {FIRST}


def test_the_day_is_what_it_is_without_readings_within_it(tmp_path: Path) -> None:
    def ledger(name: str, polling: ServedPolling) -> list[object]:
        outbox = Outbox(tmp_path / name, "gateway-1")
        virtually([site(1)], outbox, hours=24 * 2 + 2, polling=polling)
        told: list[AnyFact] = list(site(1).facts(START - DAY))
        told.append(
            CalorificValue(received_at=START + DAY, ldz="NW", gas_day=FIRST, mj_per_m3=site(1).annual_quantity_kwh / 500_000)
        )
        read = [
            msgspec.structs.replace(entry.fact, received_at=entry.committed_at)
            for entry in outbox.pending(1000)
            if isinstance(entry.fact, Readings)
        ]
        outbox.close()
        return list(determine([*told, *read], to_us(START + 3 * DAY), Rules()).values())

    assert ledger("with", WITHIN) == ledger("without", ServedPolling())


def test_a_serial_line_is_asked_within_the_day_only_where_that_is_wanted(outbox: Outbox) -> None:
    async def want(service: Service) -> None:
        service.settings[1] = msgspec.structs.replace(service.settings[1], within_day=True)

    lines = [msgspec.structs.replace(site(number), protocol="iec62056_21") for number in (1, 2)]
    virtually(lines, outbox, hours=9, polling=WITHIN, work=want)
    assert 23 not in {day for day, _ in days_read(outbox, "MP1")}
    assert [day for day, _ in days_read(outbox, "MP2")].count(23) == 2


def test_the_morning_goes_first_and_a_dead_meter_is_not_asked_within_the_day(outbox: Outbox) -> None:
    quiet = Silence(from_=START + 23 * HOUR, until=START + 34 * HOUR + 30 * HOUR / 60)
    virtually([site(1, quiet), site(2, Dead())], outbox, hours=47, polling=WITHIN)
    second = [(day, put_at) for day, put_at in days_read(outbox, "MP1") if put_at > START + DAY]
    assert second[0][0] == 23  # the Day that had ended, before any of the next
    assert {day for day, _ in second} == {23, 24}
    within = [fact for fact in stored(outbox) if isinstance(fact, PollFailed) and fact.meter_point == "MP2"]
    assert within[0].gas_day == FIRST - DAY
    assert date(2026, 10, 24) not in {fact.gas_day for fact in within}


# One item of equipment with several meters (M4.1.4).


class TwoMeters(ModbusServer):
    """A unit with two meters: the second one's registers are 20,000 above the first one's."""

    def __init__(self, first: SimulatedMeter, second: SimulatedMeter, map_: RegisterMap, now: Callable[[], datetime]) -> None:
        super().__init__({1: first}, register_map("hourly_log"), now)
        self._second = ModbusServer({1: second}, map_, now)

    def answer(self, unit: int, function: int, data: bytes) -> bytes | None:
        if int.from_bytes(data[:2], "big") >= 20_000:
            return self._second.answer(unit, function, data)
        return super().answer(unit, function, data)


@pytest.mark.parametrize("offset_s", [0, 30])
def test_one_item_of_equipment_has_several_meters_each_with_a_map_of_its_own(
    outbox: Outbox, tmp_path: Path, caplog: pytest.LogCaptureFixture, offset_s: int
) -> None:
    """They share the line, and the clock, which one of them moves where it is off."""
    caplog.set_level(logging.INFO, "collectors.clock_mover")
    text = resources.files("collectors.modbus_maps").joinpath("hourly_log.toml").read_text()
    upper = tmp_path / "upper.toml"
    tables = re.split(r"(?m)^(?=\[)", text)
    upper.write_text("".join(_higher(table) for table in tables))
    sites = [site(number, ClockOffset(from_=START, until=START + 99 * DAY, offset_s=offset_s)) for number in (1, 2)]

    async def join(service: Service) -> None:
        first, second = service.meters["site-1"], service.meters["site-2"]
        server = TwoMeters(first, second, register_map(str(upper)), service._now)
        address = f"tcp://127.0.0.1:{await server.listen()}"
        first_of, second_of = (msgspec.structs.replace(each, address=address) for each in service.settings)
        service.settings[:] = [first_of, msgspec.structs.replace(second_of, map=str(upper))]

    virtually(sites, outbox, hours=24 * 2 + 2, work=join, meter_clocks=MOVE)
    for number in (1, 2):
        meter = sites[number - 1].build(DAYS)
        read = [fact for fact in stored(outbox) if isinstance(fact, Readings) and fact.meter_point == f"MP{number}"]
        assert [fact.gas_day for fact in read][-2:] == [FIRST, FIRST + DAY]
        for fact in read:
            assert offset_s or fact.index == tuple(meter.true_index_at(at) for at in fact.instants())
    assert {record.message.split(":")[0] for record in caplog.records} == ({"MP1"} if offset_s else set())


def _higher(table: str) -> str:
    """A table of the map with its own registers 20,000 higher; those within a record stay."""
    name = table.partition("]")[0].removeprefix("[")
    if name in ("clock", "status"):
        return re.sub(r"(?m)^address = (\d+)", lambda found: f"address = {int(found[1]) + 20_000}", table)
    if name == "archive":
        table = re.sub(r"(?m)^address = (\d+)", lambda found: f"address = {int(found[1]) + 20_000}", table)
        once = r"(?m)^(newest|stored|newest_at) = \{ address = (\d+)"
        return re.sub(once, lambda found: f"{found[1]} = {{ address = {int(found[2]) + 20_000}", table)
    return table


def test_a_gap_is_filled_newest_day_first_each_reading_the_truth(outbox: Outbox) -> None:
    """The gateway was away for twelve Days, and then nobody answers at first; equipment of each family."""
    quiet = Silence(from_=START + 12 * DAY, until=START + 12 * DAY + HOUR / 2)
    sites = [
        site(1, quiet),
        msgspec.structs.replace(site(2, quiet), protocol="iec62056_21"),
        dlms(3, quiet),
        msgspec.structs.replace(dlms(4, quiet), link="hdlc", password="12345678", meter_time="local"),
    ]
    virtually(sites, outbox, hours=24 + 2, since=12 * DAY)
    for each in sites:
        meter = each.build(DAYS)
        read = days_read(outbox, each.meter_point)
        after = [day for day, put_at in read if put_at < START + 13 * DAY]
        assert len(after) >= 12
        newest_first = [fact for fact in stored(outbox) if isinstance(fact, Readings) and fact.meter_point == each.meter_point]
        days = [fact.gas_day for fact in newest_first if fact.gas_day >= FIRST][:12]
        assert days == sorted(days, reverse=True)
        for fact in newest_first:
            assert all(
                index is None or index == meter.true_index_at(at) for index, at in zip(fact.index, fact.instants(), strict=True)
            )
