"""What to chase before 11:00: cases by hand, each a table of Days by equipment and what the list says."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from metering.chase import Contact, EquipmentDay, History, Item, chase, contacts, equipment_days, target_day
from metering.facts import AnyFact, PollFailed, Readings
from metering.gasday import GasDays, to_datetime
from metering.ledger import Day

CALENDAR = GasDays()
TODAY = date(2026, 3, 20)  # the Day that ended last; its 11:00 is on the 21st
AT_NINE = datetime(2026, 3, 21, 9, tzinfo=UTC)


def stood(equipment: str, marks: str, users: str = "ALDER", points: int = 1) -> list[EquipmentDay]:
    """An item's Days up to `TODAY`, a mark each: `v` Valid at 06:00, `r` at 10:30, `l` at 13:00, `-` never, `x` excluded."""
    days = []
    for n, mark in enumerate(reversed(marks)):
        gas_day = TODAY - timedelta(days=n)
        clock = {"v": 6 * 60, "r": 10 * 60 + 30, "l": 13 * 60}.get(mark)
        midnight = to_datetime(CALENDAR.eleven_us(gas_day.toordinal())) - timedelta(hours=11)
        days.append(
            EquipmentDay(
                equipment=equipment,
                gas_day=gas_day,
                meter_points=tuple(f"{equipment}-{point}" for point in range(points)),
                users=tuple(users.split("+")),
                provided=mark in "vr",
                valid_at=None if clock is None else midnight + timedelta(minutes=clock),
                excluded="no_access" if mark == "x" else "",
            )
        )
    return days


def order(*items: list[EquipmentDay], at: datetime = AT_NINE) -> str:
    found = chase([day for days in items for day in days], at, CALENDAR)
    return " ".join(item.day.equipment for item in found.items)


def only(marks: str, users: str = "ALDER") -> Item:
    (item,) = chase(stood("A", marks, users), AT_NINE, CALENDAR).items
    return item


@pytest.mark.parametrize(
    ("at", "day"),
    [
        ("2026-03-21T04:59:59+00:00", "2026-03-19"),
        ("2026-03-21T05:00:00+00:00", "2026-03-20"),
        ("2026-03-21T23:00:00+00:00", "2026-03-20"),
        ("2026-03-29T04:00:00+00:00", "2026-03-28"),  # 05:00 in summer time; the Day of the 28th has 23 hours
    ],
)
def test_the_day_to_chase_is_the_one_that_ended_last(at: str, day: str) -> None:
    assert target_day(datetime.fromisoformat(at), CALENDAR) == date.fromisoformat(day)


def test_what_is_valid_is_not_chased_and_what_is_excluded_is_told_apart() -> None:
    found = chase([*stood("A", "vv"), *stood("B", "v-"), *stood("C", "vx")], AT_NINE, CALENDAR)
    assert [item.day.equipment for item in found.items] == ["B"]
    assert [day.equipment for day in found.excluded] == ["C"]
    assert (found.gas_day, found.is_over) == (TODAY, False)


def test_11_00_itself_is_in_time() -> None:
    eleven = datetime(2026, 3, 21, 11, tzinfo=UTC)
    assert not chase(stood("A", "-"), eleven, CALENDAR).is_over
    assert chase(stood("A", "-"), eleven + timedelta(microseconds=1), CALENDAR).is_over


@pytest.mark.parametrize(
    ("equipment", "valid", "needed"),
    [(40, 39, 0), (40, 38, 1), (39, 38, 1), (1, 0, 1), (80, 76, 2), (41, 39, 1), (41, 40, 0)],
)
def test_5_2_1_needed_of_the_day_is_what_makes_97_5_percent(equipment: int, valid: int, needed: int) -> None:
    days = [day for n in range(equipment) for day in stood(f"E{n:02}", "v" if n < valid else "-")]
    (need,) = chase(days, AT_NINE, CALENDAR).needs
    assert (need.a, need.b, need.needed) == (equipment, valid, needed)


def test_5_2_1_what_the_month_still_bears() -> None:
    """Ten items, 31 Days: 310, of which 2.5% are 7.75: 7 may fail. Nineteen Days have been, 3 of the 190 failed."""
    days = [day for n in range(9) for day in stood(f"E{n}", "v" * 20)]
    days += stood("E9", "v" * 16 + "lll-")
    (need,) = chase(days, AT_NINE, CALENDAR).needs
    assert (need.month_a, need.month_b, need.bearable) == (190, 187, 4)


def test_5_2_1_a_month_that_is_lost_bears_less_than_nothing() -> None:
    (need,) = chase(stood("A", "-" * 20), AT_NINE, CALENDAR).needs
    assert (need.month_a, need.month_b, need.bearable) == (19, 0, -19)  # 31 Days: none may fail


def test_days_of_the_month_before_do_not_count_for_this_one() -> None:
    (need,) = chase(stood("A", "l" * 30 + "-"), AT_NINE, CALENDAR).needs
    assert need.month_a == 19


def test_a_shared_point_counts_for_each_of_its_users() -> None:
    found = chase([*stood("A", "v-", "ALDER+BIRCH"), *stood("B", "vv", "ALDER")], AT_NINE, CALENDAR)
    assert [(need.user, need.a, need.b, need.needed) for need in found.needs] == [("ALDER", 2, 1, 1), ("BIRCH", 1, 0, 1)]
    assert found.items[0].short_users == 2


@pytest.mark.parametrize(
    ("marks", "run", "gbp"),
    [
        ("v-", 0, "0"),
        ("vlll-", 3, "0"),  # this is the fourth
        ("vllll-", 4, "75"),
        ("vllxxll-", 4, "75"),  # an excluded Day neither counts nor ends the run
        ("llllvl-", 1, "0"),
        ("l" * 40 + "-", 40, "75"),  # across the month's end
    ],
)
def test_5_2_3_a_failing_day_after_four_in_a_row_costs(marks: str, run: int, gbp: str) -> None:
    item = only(marks)
    assert (item.run, item.charge_gbp) == (run, Decimal(gbp))


def test_5_2_5_the_amount_is_divided_between_sharing_users() -> None:
    """Cedar came to share the point two Days ago: for it the run is 2, and its third of the amount is not due."""
    days = [*stood("A", "---", "ALDER+BIRCH+CEDAR"), *(d for d in stood("A", "v-----", "ALDER+BIRCH") if d.gas_day < TODAY)]
    last_two = {TODAY, TODAY - timedelta(days=1), TODAY - timedelta(days=2)}
    days = [day for day in days if day.gas_day not in last_two or len(day.users) == 3]
    (item,) = chase(days, AT_NINE, CALENDAR).items
    assert (item.run, item.charge_gbp) == (5 - 1, Decimal("50"))


@pytest.mark.parametrize(
    ("marks", "history", "chance", "outlook"),
    [
        ("-", History(), Fraction(1, 2), "uncertain"),
        ("vvvv-", History(4, 4, 0, 0), Fraction(1), "likely"),  # it was never so late: all that is known is that it comes
        ("vrrr-", History(4, 4, 3, 3), Fraction(1), "likely"),
        ("vrlr-", History(4, 3, 3, 2), Fraction(11, 16), "likely"),
        ("vrl-", History(3, 2, 2, 1), Fraction(5, 9), "uncertain"),
        ("vvll-", History(4, 2, 2, 0), Fraction(1, 6), "unlikely"),
        ("-" * 50, History(28, 0, 28, 0), Fraction(0), "unlikely"),
    ],
)
def test_the_chance_is_what_came_of_days_on_which_it_was_as_late(
    marks: str, history: History, chance: Fraction, outlook: str
) -> None:
    found = only(marks).history
    assert (found, found.chance, found.outlook) == (history, chance, outlook)


def test_an_hour_and_a_quarter_before_11_it_has_been_missing_so_late_less_often_than_at_6() -> None:
    at_six = chase(stood("A", "vrrv-"), datetime(2026, 3, 21, 5, 30, tzinfo=UTC), CALENDAR).items[0].history
    at_nine = chase(stood("A", "vrrv-"), AT_NINE, CALENDAR).items[0].history
    assert (at_six.missing_then, at_nine.missing_then) == (4, 2)


def test_as_late_is_measured_to_11_00_also_across_the_clock_change() -> None:
    """On 25 October clocks went back: 06:00 on that date is five hours before its 11:00, as on every other."""
    before = EquipmentDay("A", date(2026, 10, 24), ("P",), ("ALDER",), True, datetime(2026, 10, 25, 9, 30, tzinfo=UTC))
    today = EquipmentDay("A", date(2026, 10, 25), ("P",), ("ALDER",), False, None)
    (item,) = chase([before, today], datetime(2026, 10, 26, 9, tzinfo=UTC), CALENDAR).items
    assert item.history == History(days=1, by_11=1, missing_then=1, recovered=1)


@pytest.mark.parametrize(
    ("first", "then", "why"),
    [
        (stood("Z", "rrrrrllll-"), stood("A", "rrrrrr-", "ALDER+BIRCH"), "a Day that costs, before what more Users count"),
        (stood("Z", "vr-", "ALDER+BIRCH"), stood("A", "vr-"), "what more Users count"),
        (stood("Z", "vr-", points=3), stood("A", "vr-"), "what more meters hang on"),
        (stood("Z", "rrrrrrl-"), stood("A", "rrrrrrr-"), "what has begun to fail, before it costs"),
        (stood("Z", "rrrrr-"), stood("A", "rrrlr-"), "what comes more often"),
        (stood("A", "vvv-"), stood("Z", "vvvllllll-"), "what hardly answers comes last, whatever it costs"),
        (stood("A", "v-"), stood("B", "v-"), "by name"),
    ],
)
def test_most_valuable_first(first: list[EquipmentDay], then: list[EquipmentDay], why: str) -> None:
    names = f"{first[0].equipment} {then[0].equipment}"
    assert order(first, then) == order(then, first) == names, why


def test_a_user_that_has_its_97_5_percent_waits_for_one_that_has_not() -> None:
    enough = [day for n in range(79) for day in stood(f"E{n:02}", "v")]
    assert order(enough, stood("A", "v-"), stood("Z", "v-", "BIRCH")) == "Z A"


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"2026-03-21T{clock}:00+00:00")


def test_contact_is_of_the_equipment_and_of_this_days_polls() -> None:
    readings = Readings(
        received_at=at("04:30"), meter_point="P", meter="M", gas_day=date(2026, 3, 19), at=(at("04:00"),), index=(1,)
    )
    on_site = Readings(
        received_at=at("08:00"), meter_point="P", meter="M", gas_day=TODAY, at=(at("07:00"),), index=(1,), source="on_site"
    )
    facts: list[AnyFact] = [on_site, readings]
    for clock, day, reason in (
        ("05:10", TODAY, "no answer"),
        ("04:20", date(2026, 3, 19), "busy"),
        ("08:10", TODAY, "bad CRC"),
        ("10:00", TODAY, "x"),
    ):
        facts.append(PollFailed(received_at=at(clock), meter_point="P", meter="M", gas_day=day, reason=reason, attempts=3))
    assert contacts(facts, TODAY, AT_NINE) == {"P": Contact(at("04:30"), 2, "bad CRC")}


def a_day(point: str, valid_at: datetime | None, **changes: object) -> Day:
    by_11 = valid_at is not None and valid_at <= at("11:00")
    fields: dict[str, object] = {
        "users": ("ALDER",), "equipment": "E", "status": "actual", "start_index": 1, "end_index": 2, "volume_m3": None,
        "quantity_kwh": None, "closed_out": False, "determined_status": None, "determined_m3": None, "determined_kwh": None,
        "since": None, "valid": valid_at is not None, "valid_at": valid_at, "by_11": by_11, "ratchet_day": True,
        "failed": (), "ran": (),
    }  # fmt: skip
    return Day(meter_point=point, gas_day=TODAY, **(fields | changes))  # type: ignore[arg-type]


def test_5_1_1_c_equipment_of_two_meters_is_missing_until_both_are_valid() -> None:
    p, q = a_day("P", at("05:20")), a_day("Q", None, users=("BIRCH",))
    (day,) = equipment_days([p, q], {})
    assert (day.meter_points, day.users, day.provided, day.valid_at) == (("P", "Q"), ("ALDER", "BIRCH"), False, None)
    assert day.lacking == (q,)
    (day,) = equipment_days([p, a_day("Q", at("06:00"))], {})
    assert (day.provided, day.valid_at, day.lacking) == (True, at("06:00"), ())


def test_what_came_after_11_00_has_failed_and_lacks_nothing() -> None:
    (day,) = equipment_days([a_day("P", at("11:20"))], {("E", TODAY): ""})
    assert (day.provided, day.valid_at, day.lacking) == (False, at("11:20"), ())


def test_contact_of_several_meters_is_the_worst_of_those_that_lack() -> None:
    days = equipment_days([a_day("P", at("05:20")), a_day("Q", None), a_day("R", None)], {})
    known = {"P": Contact(at("05:20")), "Q": Contact(at("05:30"), 2, "no answer"), "R": Contact(at("04:10"), 1)}
    (item,) = chase(days, AT_NINE, CALENDAR, known).items
    assert item.contact == Contact(at("04:10"), 3, "no answer")
    (item,) = chase(days, AT_NINE, CALENDAR, {"Q": known["Q"]}).items
    assert item.contact.heard_at is None  # R was never heard
