"""LIS200 archives: rows and their times, and a Day read from one over a real pty."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from collectors.iec62056_21 import Malformed
from collectors.iec62056_21_data import MeterTime
from collectors.iec62056_21_lis200 import archive_read, archive_rows, time_shown
from collectors.profile_maps import Archive
from collectors.reading import PollError
from simulators.faults import ClockOffset, Corrupt, NotLogged, Reports
from simulators.iec62056_21_server import Make
from tests.collectors.iec62056_21_rig import DAY, LONG_DAY, SITES, boundaries, rig, run, truth

LOCAL = MeterTime("local")
CODE = "7-0:13.2.0"
ARCHIVE = Archive(columns={CODE: 2}, time_column=1, check_column=4, status_column=3, messages={"9": "battery_low"})
REAL = Archive(
    columns={"7-0:13.2.0": 5, "7-0:13.0.0": 7},
    check_column=18,
    status_column=12,
    messages={"9": "battery_low", "11": "clock_invalid"},
    nothing="#0104",
)
KNOWN: dict[str, Any] = {
    "log": "lis200",
    "archive": REAL,
    "formatted": False,
    "clock_code": "1:400.0",
    "lock_code": "4:171.0",
    "reference_code": None,
}
LIS200 = Make(lis200=True)


def line(time: str, value: str = "1.0", status: str = "0", check: str = "CRC Ok") -> str:
    return f"({time})({value})({status})({check})"


def test_what_is_asked_for() -> None:
    first, last = boundaries(date(2026, 10, 24))
    read = archive_read(REAL, LOCAL, first, last)
    assert (read.code, read.partial, read.formatted) == ("3:V.0", True, False)
    assert read.argument == "3;2026-10-24,05:00:00;2026-10-25,05:00:00;10"


def test_rows_are_lines_whatever_the_blocks() -> None:
    lines = [line(f"2026-10-05,{hour:02}:00:00", f"{hour}.5*m3") for hour in range(5)]
    rows = archive_rows(["\r\n".join(lines[:2]), "\r\n".join(lines[2:]) + "\r\n"], ARCHIVE, LOCAL)
    assert [row.at for row in rows] == [datetime(2026, 10, 4, 23, tzinfo=UTC) + timedelta(hours=n) for n in range(5)]
    assert [row.values[CODE] for row in rows] == [Decimal(hour) + Decimal("0.5") for hour in range(5)]


def test_the_hour_that_comes_twice_is_told_by_the_order_of_rows() -> None:
    times = ["2026-10-25,00:30:00", "2026-10-25,01:30:00", "2026-10-25,01:30:00", "2026-10-25,02:30:00"]
    rows = archive_rows(["\r\n".join(map(line, times))], ARCHIVE, LOCAL)
    assert [row.at.strftime("%d %H:%M") for row in rows] == ["24 23:30", "25 00:30", "25 01:30", "25 02:30"]


def test_a_clock_that_was_set_back_leaves_the_row_that_came_first() -> None:
    times = ["2026-10-05,10:00:00", "2026-10-05,11:00:00", "2026-10-05,10:00:00", "2026-10-05,12:00:00"]
    lines = [line(time, str(n)) for n, time in enumerate(times)]
    assert [row.values[CODE] for row in archive_rows(["\r\n".join(lines)], ARCHIVE, LOCAL)] == [0, 1, 3]


def test_a_row_whose_check_failed_is_missing_and_messages_have_a_meaning() -> None:
    lines = [line("2026-10-05,10:00:00", check="CRC Error"), line("2026-10-05,11:00:00", status="1;9")]
    failed, low = archive_rows(["\r\n".join(lines)], ARCHIVE, LOCAL)
    assert failed.values == {CODE: None}
    assert (low.values, low.status) == ({CODE: Decimal("1.0")}, ("battery_low",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(2026-10-05,10:00:00)(1)", "a row of 2 columns, where 4 are due"),
        (line("2026-13-05,10:00:00"), "time '2026-13-05,10:00:00': month must be"),
        (line("05.10.2026 10:00"), "time '05.10.2026 10:00'; allowed"),
        (line("2026-10-05,10:00:00", "12*kWh"), "is not in m³"),
        (line("2026-10-05,10:00:00", "-5"), "is no index"),
        (line("2026-10-05,10:00:00") + "x", "no data set at"),
    ],
)
def test_what_is_no_row(text: str, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        archive_rows([text], ARCHIVE, LOCAL)


def test_parts_of_a_time_may_have_one_digit() -> None:
    assert time_shown("2026-1-5, 6:00:0") == datetime(2026, 1, 5, 6)  # noqa: DTZ001


@pytest.mark.parametrize("name", ["harbour-offices", "lock-infirmary", "kiln-works"])
@pytest.mark.parametrize(("day", "hours"), [(DAY, 24), (LONG_DAY, 25)])
def test_a_days_readings_are_the_meters(name: str, day: date, hours: int, tmp_path: Path) -> None:
    site = SITES[name]

    async def work() -> None:
        columns = {"7-0:13.2.0" if site.convertor else "7-0:13.0.0": 5} | ({"7-0:13.0.0": 7} if site.convertor else {})
        archive = Archive(columns=columns, check_column=18, nothing="#0104")
        async with rig(tmp_path, Corrupt(every=3), site=site, make=LIS200, **{**KNOWN, "archive": archive}) as it:
            readings = await it.read(day)
            first, _ = boundaries(day)
            assert readings.at == tuple(first + n * timedelta(hours=1) for n in range(hours + 1))
            assert readings.index == truth(it, readings.at)
            assert readings.clock_offset_s == 0
            assert (readings.unconverted is not None) == (site.convertor is not None)

    run(work)


def test_an_archive_without_rows_of_the_day_is_an_answer_where_the_map_knows_how_it_says_so(tmp_path: Path) -> None:
    async def work() -> None:
        site = SITES["kiln-works"]
        archive = Archive(columns={CODE: 5, "7-0:13.0.0": 5}, nothing="#0104")
        async with rig(tmp_path, site=site, make=LIS200, **{**KNOWN, "archive": archive}) as it:
            old, late = date(2026, 9, 1), timedelta(days=10)
            assert (await it.read(old, after=late)).index == (None,) * 25
        archive = Archive(columns={CODE: 5, "7-0:13.0.0": 5})
        async with rig(tmp_path, site=site, make=LIS200, **{**KNOWN, "archive": archive}) as it:
            with pytest.raises(PollError, match=r"3:V\.0: refused: #0104"):
                await it.read(old, after=late)

    run(work)


def test_gaps_states_and_the_clock(tmp_path: Path) -> None:
    async def work() -> None:
        site = SITES["harbour-offices"]
        first, last = boundaries(DAY)
        faults = (
            NotLogged(first_day=DAY, last_day=DAY),
            Reports(from_=first, until=last + timedelta(days=1), status="battery_low"),
            ClockOffset(from_=last, until=last + timedelta(days=1), offset_s=90),
        )
        async with rig(tmp_path, *faults, site=site, make=LIS200, **KNOWN) as it:
            readings = await it.read()
            assert readings.index[1:-1] == (None,) * 23
            assert readings.has_boundaries
            assert readings.status == ("battery_low",)
            assert readings.clock_offset_s == 90

    run(work)


@pytest.mark.parametrize(
    ("known", "cause"),
    [
        ({"password": "99999999"}, "password: refused: #0002"),
        ({"clock_code": "1:401.0"}, r"1:401\.0: refused: #0010"),
        ({"archive": Archive(columns={"7-0:13.0.0": 5}, time_column=2)}, r"3:V\.0: refused: #0103"),
        ({"archive": Archive(columns={"7-0:13.0.0": 19})}, "a row of 18 columns, where 19 are due"),
    ],
)
def test_what_is_wrongly_configured_says_so(known: dict[str, Any], cause: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, make=LIS200, **{**KNOWN, "archive": Archive(columns={"7-0:13.0.0": 5}), **known}) as it:
            with pytest.raises(PollError, match=cause):
                await it.read()

    run(work)
