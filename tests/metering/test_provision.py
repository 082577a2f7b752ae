"""What Users are provided with (M4.5, 4.6.1(b)): rows, versions, instants at which files are due, names that are safe."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from metering.gasday import SECOND_US, GasDays, to_datetime, to_us
from metering.ledger import Day
from metering.provision import (
    DAILY,
    FileName,
    Given,
    Timing,
    content,
    daily_due_us,
    daily_row,
    file_name,
    hourly_row,
    key_of,
    next_edition,
    part_due_us,
    part_of,
    safe_name,
    valid_rows,
)

DAYS = GasDays()
MINUTE_US = 60 * SECOND_US
TIMING = Timing(gather_us=10 * MINUTE_US, margin_us=15 * MINUTE_US)
WINTER = date(2026, 1, 8).toordinal()
SPRING = date(2026, 3, 28).toordinal()  # of 23 hours: the clocks go forward before it ends
AUTUMN = date(2026, 10, 24).toordinal()  # of 25 hours


def day(**changes: object) -> Day:
    fields: dict[str, object] = {
        "meter_point": "MP1", "gas_day": date(2026, 1, 8), "users": ("U",), "equipment": "E", "status": "actual",
        "start_index": 1620, "end_index": 1720, "volume_m3": Decimal("10.000"), "quantity_kwh": Decimal("109.722"),
        "closed_out": False, "determined_status": None, "determined_m3": None, "determined_kwh": None, "since": None,
        "valid": True, "valid_at": None, "by_11": True, "ratchet_day": True, "failed": (), "ran": (),
    }  # fmt: skip
    return Day(**(fields | changes))  # type: ignore[arg-type]


def us(text: str) -> int:
    return to_us(datetime.fromisoformat(text).replace(tzinfo=UTC))


def parsed(text: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.decode(), newline="")))


@pytest.mark.clause("4.5")
def test_a_day_is_a_row_and_what_is_not_known_is_empty_never_zero() -> None:
    known = daily_row(day())
    unknown = daily_row(
        day(status="provisional", start_index=None, end_index=None, volume_m3=None, quantity_kwh=None, valid=False,
            failed=("clock_invalid", "excess_flow"))
    )  # fmt: skip
    assert known == ("MP1", "2026-01-08", "actual", "1620", "1720", "10.000", "109.722", "true", "")
    assert unknown == ("MP1", "2026-01-08", "provisional", "", "", "", "", "false", "clock_invalid excess_flow")
    assert daily_row(day(start_index=0, volume_m3=Decimal("0.000")))[3:6] == ("0", "1720", "0.000")


def test_a_file_is_csv_in_the_order_of_meter_points_whatever_is_in_the_names() -> None:
    names = ['MP,"2"', "MP\n3", "MP1", " ü"]
    rows = {(name,): Given(daily_row(day(meter_point=name)), 4) for name in names}
    head, *lines = parsed(content(DAILY, rows))
    assert head == [
        "meter_point", "gas_day", "status", "start_index", "end_index", "volume_m3", "quantity_kwh", "valid", "failed",
        "version",
    ]  # fmt: skip
    assert [line[0] for line in lines] == sorted(names)
    assert {line[-1] for line in lines} == {"4"}


def test_the_first_edition_has_every_row_and_the_same_again_is_none() -> None:
    standing = {("A",): daily_row(day(meter_point="A")), ("B",): daily_row(day(meter_point="B"))}
    first = next_edition({}, standing, 0)
    assert first is not None
    assert (first.version, first.changed) == (1, (("A",), ("B",)))
    assert next_edition(first.rows, standing, 1) is None


def test_a_row_bears_the_version_in_which_it_last_changed() -> None:
    standing = {("A",): daily_row(day(meter_point="A")), ("B",): daily_row(day(meter_point="B"))}
    first = next_edition({}, standing, 0)
    assert first is not None
    later = standing | {("B",): daily_row(day(meter_point="B", end_index=1721))}
    second = next_edition(first.rows, later, first.version)
    assert second is not None
    assert [line[-1] for line in parsed(content(DAILY, second.rows))[1:]] == ["1", "2"]
    assert second.changed == (("B",),)


def test_a_row_that_is_the_users_no_longer_is_gone_in_the_next_edition() -> None:
    standing = {("A",): daily_row(day(meter_point="A"))}
    first = next_edition({}, standing, 0)
    assert first is not None
    second = next_edition(first.rows, {}, 1)
    assert second is not None
    assert (second.version, second.rows, second.changed) == (2, {}, ())


@pytest.mark.clause("4.2.3(b)", "4.5")
def test_only_valid_readings_count_as_provided_5_2_1() -> None:
    rows = {
        ("A",): Given(daily_row(day(meter_point="A")), 1),
        ("B",): Given(daily_row(day(meter_point="B", status="provisional", valid=False)), 2),
        ("C",): Given(daily_row(day(meter_point="C")), 3),
    }
    assert valid_rows(rows) == [("A", 1), ("C", 3)]


# When the file of 8 January is due; its 11:00 is on the 9th. `speaks`: there are Valid readings, or it changes what was given.
DUE = [
    ("before the Day ends: once it has", "2026-01-08T12:00", True, "2026-01-09T05:10"),
    ("after its end: gathered for ten minutes", "2026-01-09T07:03", True, "2026-01-09T07:13"),
    ("not Valid: a quarter of an hour before 11:00", "2026-01-08T05:00", False, "2026-01-09T10:45"),
    ("not Valid, nearly 11:00", "2026-01-09T10:44", False, "2026-01-09T10:45"),
    ("the last ten minutes before the margin", "2026-01-09T10:40", True, "2026-01-09T10:45"),
    ("within the margin: half of what is left", "2026-01-09T10:50", True, "2026-01-09T10:55"),
    ("the last minute", "2026-01-09T10:59", True, "2026-01-09T10:59:30"),
    ("11:00 itself has passed", "2026-01-09T11:00", True, "2026-01-09T11:10"),
    ("late, and not Valid still", "2026-01-12T15:00", False, "2026-01-12T15:10"),
]


@pytest.mark.parametrize(("met", "speaks", "due"), [row[1:] for row in DUE], ids=[row[0] for row in DUE])
@pytest.mark.clause("5.2.1")
def test_the_days_file_is_due_by_11_5_2_1(met: str, speaks: bool, due: str) -> None:
    assert daily_due_us(WINTER, us(met), speaks, DAYS, TIMING) == us(due)


def test_11_is_local_time() -> None:
    summer = date(2026, 7, 1).toordinal()
    assert to_datetime(daily_due_us(summer, us("2026-07-01T12:00"), False, DAYS, TIMING)).hour == 9  # 10:45 there


PARTS = [
    (WINTER, "2026-01-08T05:00", 1), (WINTER, "2026-01-08T04:59:30", 1), (WINTER, "2026-01-08T09:00", 1),
    (WINTER, "2026-01-08T09:30", 2), (WINTER, "2026-01-08T10:00", 2), (WINTER, "2026-01-09T05:00", 6),
    (WINTER, "2026-01-09T05:00:45", 6), (WINTER, "2026-01-09T05:01:01", None), (WINTER, "2026-01-08T04:58:59", None),
    (SPRING, "2026-03-28T05:00", 1), (SPRING, "2026-03-29T04:00", 6),
    (AUTUMN, "2026-10-24T04:00", 1), (AUTUMN, "2026-10-25T04:00", 6), (AUTUMN, "2026-10-25T05:00", 7),
]  # fmt: skip


@pytest.mark.parametrize(("gas_day", "at", "part"), PARTS)
@pytest.mark.clause("4.6.1(b)")
def test_a_reading_belongs_to_four_hours_of_its_day_4_6_1(gas_day: int, at: str, part: int | None) -> None:
    assert part_of(gas_day, us(at), DAYS, 60 * SECOND_US) == part


@pytest.mark.parametrize(
    ("gas_day", "part", "met", "due"),
    [
        (WINTER, 1, "2026-01-08T06:00", "2026-01-08T09:10"),
        (WINTER, 1, "2026-01-08T09:05", "2026-01-08T09:15"),
        (WINTER, 6, "2026-01-09T06:00", "2026-01-09T06:10"),
        (SPRING, 6, "2026-03-28T12:00", "2026-03-29T04:10"),
        (AUTUMN, 7, "2026-10-24T12:00", "2026-10-25T05:10"),
    ],
)
@pytest.mark.clause("4.6.1(b)")
def test_hourly_readings_are_due_every_four_hours_4_6_1(gas_day: int, part: int, met: str, due: str) -> None:
    assert part_due_us(gas_day, part, us(met), DAYS, TIMING) == us(due)


def test_a_reading_is_a_row_of_its_meter_and_instant() -> None:
    cells = hourly_row("MP1", WINTER, "M", us("2026-01-08T06:00"), 0)
    assert cells == ("MP1", "2026-01-08", "M", "2026-01-08T06:00:00Z", "0")
    assert key_of(cells, 1) == ("MP1", "M", "2026-01-08T06:00:00Z")


@pytest.mark.parametrize(
    ("user", "safe"),
    [
        ("GasCo-1", "GasCo-1"), ("a/b", "a_2Fb"), ("..", "_2E_2E"), ("a_b", "a_5Fb"), ("a b", "a_20b"), ("ü", "_C3_BC"),
        ("\0", "_00"),
    ],
)  # fmt: skip
def test_names_of_users_are_safe_for_folders_and_topics(user: str, safe: str) -> None:
    assert safe_name(user) == safe


def test_the_longest_names_are_cut_and_remain_different() -> None:
    names = ["😀" * 64, "😀" * 63 + "😁", "😀" * 63]
    safe = [safe_name(name) for name in names]
    assert len(set(safe)) == 3
    assert all(len(name.encode()) <= 180 for name in safe)
    assert safe[0].startswith("_F0_9F_98_80")


def test_files_say_what_they_are() -> None:
    assert file_name(FileName("U", WINTER, DAILY), 1) == "daily-2026-01-08-v001.csv"
    assert file_name(FileName("U", WINTER, 3), 12) == "hourly-2026-01-08-part3-v012.csv"
