"""What to chase before 11:00: cases by hand, each a row of marks for an item's Days, and what the list says."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import msgspec
import pytest

from metering.chase import Chase, Contact, History, Item, chase, contacts, target_day
from metering.facts import AnyFact, Excluded, PollFailed, Readings, Registered
from metering.gasday import GasDays, to_datetime, to_us
from metering.ledger import Day
from metering.rules import Rules, Standard

CALENDAR = GasDays()
TODAY = date(2026, 3, 20)  # the Day that ended last; its 11:00 is on the 21st
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
AT_NINE = datetime(2026, 3, 21, 9, tzinfo=UTC)
MINUTES = {"v": 6 * 60, "r": 10 * 60 + 30, "l": 13 * 60}


def a_day(point: str, gas_day: date, valid_at: datetime | None, **changes: object) -> Day:
    """A Day of a point whose equipment bears its name up to the `-`."""
    eleven = to_datetime(CALENDAR.eleven_us(gas_day.toordinal()))
    fields: dict[str, object] = {
        "users": ("ALDER",), "equipment": point.partition("-")[0], "status": "actual", "start_index": 1, "end_index": 2,
        "volume_m3": None, "quantity_kwh": None, "closed_out": False, "determined_status": None, "determined_m3": None,
        "determined_kwh": None, "since": None, "valid": valid_at is not None, "valid_at": valid_at,
        "by_11": valid_at is not None and valid_at <= eleven, "ratchet_day": True, "failed": (), "ran": (),
    }  # fmt: skip
    return Day(meter_point=point, gas_day=gas_day, **(fields | changes))  # type: ignore[arg-type]


def stood(equipment: str, marks: str, users: str = "ALDER", points: int = 1) -> list[Day | Excluded]:
    """An item's Days up to `TODAY`, a mark each: `v` Valid at 06:00, `r` at 10:30, `l` at 13:00, `-` never, `x` excluded. Long
    before, it has been Valid once, and so is operational."""
    found: list[Day | Excluded] = []
    for point in (f"{equipment}-{n}" for n in range(points)):
        found.append(a_day(point, LONG_AGO.date(), LONG_AGO + timedelta(days=1, hours=6), users=tuple(users.split("+"))))
        for n, mark in enumerate(reversed(marks)):
            gas_day = TODAY - timedelta(days=n)
            midnight = to_datetime(CALENDAR.eleven_us(gas_day.toordinal())) - timedelta(hours=11)
            valid_at = midnight + timedelta(minutes=MINUTES[mark]) if mark in MINUTES else None
            found.append(a_day(point, gas_day, valid_at, users=tuple(users.split("+"))))
            if mark == "x":
                found.append(
                    Excluded(received_at=LONG_AGO, meter_point=point, reason="no_access", from_=gas_day, until=gas_day)
                )
    return found


def chased(*told: Day | AnyFact, at: datetime = AT_NINE, rules: Rules | None = None) -> Chase:
    days = [each for each in told if isinstance(each, Day)]
    facts = [each for each in told if not isinstance(each, Day)]
    return chase(facts, days, to_us(at), rules or Rules())


def only(marks: str, users: str = "ALDER", **how: datetime) -> Item:
    (item,) = chased(*stood("A", marks, users), **how).items
    return item


def order(*items: list[Day | Excluded]) -> str:
    return " ".join(item.equipment for item in chased(*(each for item in items for each in item)).items)


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
    assert target_day(to_us(datetime.fromisoformat(at)), CALENDAR) == date.fromisoformat(day)


def test_what_is_valid_is_not_chased_and_what_does_not_count_is_told_apart() -> None:
    telemetry = Registered(
        received_at=LONG_AGO, meter_point="D-0", gas_day=LONG_AGO.date(), users=("ALDER",), ldz="EM",
        annual_quantity_kwh=Decimal(1), equipment="D", telemetry=True,
    )  # fmt: skip
    found = chased(*stood("A", "vv"), *stood("B", "v-"), *stood("C", "vx"), *stood("D", "v-"), telemetry)
    assert [item.equipment for item in found.items] == ["B"]
    assert found.excluded == (("C", "no_access"), ("D", "telemetry"))
    assert (found.gas_day, found.is_over) == (TODAY, False)


def test_4_1_7_equipment_that_has_never_been_valid_is_not_counted_yet() -> None:
    assert chased(a_day("A-0", TODAY, None)).excluded == (("A", "not_operational"),)


def test_11_00_itself_is_in_time() -> None:
    eleven = datetime(2026, 3, 21, 11, tzinfo=UTC)
    assert not chased(*stood("A", "-"), at=eleven).is_over
    assert chased(*stood("A", "-"), at=eleven + timedelta(microseconds=1)).is_over


def test_what_came_after_11_00_has_failed_and_lacks_nothing() -> None:
    item = only("vl", at=datetime(2026, 3, 21, 14, tzinfo=UTC))
    assert (item.equipment, item.lacking) == ("A", ())


@pytest.mark.parametrize(
    ("equipment", "valid", "needed"),
    [(40, 39, 0), (40, 38, 1), (39, 38, 1), (1, 0, 1), (80, 76, 2), (41, 39, 1), (41, 40, 0)],
)
def test_5_2_1_needed_of_the_day_is_what_makes_97_5_percent(equipment: int, valid: int, needed: int) -> None:
    told = [each for n in range(equipment) for each in stood(f"E{n:02}", "v" if n < valid else "-")]
    (need,) = chased(*told).needs
    assert (need.a, need.b, need.needed) == (equipment, valid, needed)


def test_5_2_1_the_share_is_that_of_the_month() -> None:
    rules = Rules(performance=(Standard(required=Decimal("0.5")), Standard(since=date(2026, 3, 2))))
    told = [each for n in range(10) for each in stood(f"E{n}", "v" if n < 5 else "-")]
    assert chased(*told, rules=rules).needs[0].needed == 0


def test_5_2_1_what_the_month_still_bears() -> None:
    """Ten items, 31 Days: 310, of which 2.5% are 7.75: 7 may fail. Nineteen Days have been, 3 of the 190 failed."""
    told = [each for n in range(9) for each in stood(f"E{n}", "v" * 20)]
    (need,) = chased(*told, *stood("E9", "v" * 16 + "lll-")).needs
    assert (need.month_a, need.month_b, need.bearable) == (190, 187, 4)


@pytest.mark.parametrize(
    ("today", "days_left"), [(date(2026, 2, 27), 2), (date(2028, 2, 27), 3), (date(2026, 12, 31), 1), (date(2026, 1, 1), 31)]
)
def test_5_2_1_the_month_goes_on_until_its_end(today: date, days_left: int) -> None:
    """Forty items: each Day of the month to come may see one fail."""
    told = [a_day(f"E{n}", today, None) for n in range(40)]
    told += [a_day(f"E{n}", date(2025, 6, 1), datetime(2025, 6, 2, 6, tzinfo=UTC)) for n in range(40)]
    at = datetime(today.year, today.month, today.day, 9, tzinfo=UTC) + timedelta(days=1)
    assert chased(*told, at=at).needs[0].bearable == days_left


def test_5_2_1_a_month_that_is_lost_bears_less_than_nothing() -> None:
    (need,) = chased(*stood("A", "-" * 20)).needs
    assert (need.month_a, need.month_b, need.bearable) == (19, 0, -19)  # 31 Days: none may fail


def test_days_of_the_month_before_do_not_count_for_this_one() -> None:
    (need,) = chased(*stood("A", "l" * 30 + "-")).needs
    assert need.month_a == 19


def test_a_shared_point_counts_for_each_of_its_users() -> None:
    found = chased(*stood("A", "v-", "ALDER+BIRCH"), *stood("B", "vv", "ALDER"))
    assert [(need.user, need.a, need.b, need.needed) for need in found.needs] == [("ALDER", 2, 1, 1), ("BIRCH", 1, 0, 1)]
    assert (found.items[0].users, found.items[0].short_users) == (("ALDER", "BIRCH"), 2)


@pytest.mark.parametrize(
    ("marks", "run", "gbp"),
    [
        ("v-", 0, "0.00"),
        ("vlll-", 3, "0.00"),  # this is the fourth
        ("vllll-", 4, "75.00"),
        ("vllxxll-", 4, "75.00"),  # an excluded Day neither counts nor ends the run
        ("llllvl-", 1, "0.00"),
        ("v" + "l" * 40 + "-", 40, "75.00"),  # across the month's end
    ],
)
def test_5_2_3_a_failing_day_after_four_in_a_row_costs(marks: str, run: int, gbp: str) -> None:
    item = only(marks)
    assert (item.run, str(item.charge_gbp)) == (run, gbp)


def test_5_2_5_the_amount_is_divided_between_sharing_users() -> None:
    """Cedar came to share the point two Days ago: for it the run is short, and its third of the amount is not due."""
    was, came = stood("A", "vll---", "ALDER+BIRCH"), stood("A", "vll---", "ALDER+BIRCH+CEDAR")
    since = TODAY - timedelta(days=2)
    told = [each for each in was if isinstance(each, Day) and each.gas_day < since]
    told += [each for each in came if isinstance(each, Day) and each.gas_day >= since]
    (item,) = chased(*told).items
    assert (item.run, str(item.charge_gbp)) == (4, "50.00")


@pytest.mark.parametrize(
    ("marks", "history", "chance", "outlook"),
    [
        ("vvv-", History(4, 4, 0, 0), Fraction(1), "likely"),  # it was never so late: all that is known is that it comes
        ("rrr-", History(4, 4, 3, 3), Fraction(1), "likely"),
        ("rlr-", History(4, 3, 3, 2), Fraction(11, 16), "likely"),
        ("rl-", History(3, 2, 2, 1), Fraction(5, 9), "uncertain"),
        ("vll-", History(4, 2, 2, 0), Fraction(1, 6), "unlikely"),
        ("vxx-", History(2, 2, 0, 0), Fraction(1), "likely"),  # Days that do not count say nothing
        ("-" * 50, History(28, 0, 28, 0), Fraction(0), "unlikely"),
    ],
)
def test_the_chance_is_what_came_of_days_on_which_it_was_as_late(
    marks: str, history: History, chance: Fraction, outlook: str
) -> None:
    found = only(marks).history
    assert (found, found.chance, found.outlook) == (history, chance, outlook)


def test_without_a_history_nobody_knows() -> None:
    assert (History().chance, History().outlook) == (Fraction(1, 2), "uncertain")


def test_at_half_past_five_it_has_been_missing_more_often_than_at_nine() -> None:
    at_half_past_five = only("vrrv-", at=datetime(2026, 3, 21, 5, 30, tzinfo=UTC)).history
    assert (at_half_past_five.missing_then, only("vrrv-").history.missing_then) == (5, 2)


def test_as_late_is_measured_to_11_00_also_across_the_clock_change() -> None:
    """Clocks went back on 25 October: 09:30Z was 09:30 local time then, and 10:30 the day before."""
    told = [
        a_day("A", date(2026, 10, 23), datetime(2026, 10, 24, 8, 30, tzinfo=UTC)),
        a_day("A", date(2026, 10, 24), datetime(2026, 10, 25, 9, 30, tzinfo=UTC)),
        a_day("A", date(2026, 10, 25), None),
    ]
    (item,) = chased(*told, at=datetime(2026, 10, 26, 9, 29, tzinfo=UTC)).items
    assert item.history == History(days=2, by_11=2, missing_then=2, recovered=2)


@pytest.mark.parametrize(
    ("first", "then", "why"),
    [
        (stood("Z", "rrrrrrrrrllll-"), stood("A", "rrrrrr-", "ALDER+BIRCH"), "a Day that costs, before what more Users count"),
        (stood("Z", "vr-", "ALDER+BIRCH"), stood("A", "vr-"), "what more Users count"),
        (stood("Z", "vr-", points=3), stood("A", "vr-"), "what more meters hang on"),
        (stood("Z", "rrrrrrl-"), stood("A", "rrrrrrr-"), "what has begun to fail, before it costs"),
        (stood("Z", "rrrrr-"), stood("A", "rrrlr-"), "what comes more often"),
        (stood("A", "vvv-"), stood("Z", "vvvllllll-"), "what hardly answers comes last, whatever it costs"),
        (stood("A", "v-"), stood("B", "v-"), "by name"),
    ],
)
def test_most_valuable_first(first: list[Day | Excluded], then: list[Day | Excluded], why: str) -> None:
    found = {order(first, then), order(then, first)}
    names = [next(each.equipment for each in told if isinstance(each, Day)) for told in (first, then)]
    assert found == {" ".join(names)}, why


def test_a_user_that_has_its_97_5_percent_waits_for_one_that_has_not() -> None:
    enough = [each for n in range(79) for each in stood(f"E{n:02}", "v")]
    assert order(enough, stood("A", "v-"), stood("Z", "v-", "BIRCH")) == "Z A"


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"2026-03-21T{clock}:00+00:00")


def failed(clock: str, point: str = "P-0", reason: str = "no answer", gas_day: date = TODAY) -> PollFailed:
    return PollFailed(received_at=at(clock), meter_point=point, meter="M", gas_day=gas_day, reason=reason, attempts=3)


def read(clock: str, point: str = "P-0", **changes: object) -> Readings:
    fact = Readings(meter_point=point, meter="M", gas_day=date(2026, 3, 19), at=(at("04:00"),), index=(1,))
    return msgspec.structs.replace(fact, received_at=at(clock), **changes)


def test_contact_is_of_the_equipment_and_of_this_days_polls() -> None:
    yesterdays = failed("04:20", gas_day=date(2026, 3, 19))
    alike = [failed("08:10", reason="bad CRC"), failed("08:40", reason="bad CRC")]
    facts: list[AnyFact] = [*alike, failed("05:10"), yesterdays]
    facts += [read("04:30"), read("08:30", outbox="sent-again", sequence=7), read("08:00", source="on_site")]
    assert contacts(facts, TODAY) == {"P-0": Contact(at("04:30"), 3, "bad CRC")}


def test_contact_of_several_meters_is_the_worst_of_those_that_lack() -> None:
    days = [a_day("P-0", TODAY, at("05:20")), a_day("P-1", TODAY, None), a_day("P-2", TODAY, None)]
    days += [a_day(day.meter_point, LONG_AGO.date(), LONG_AGO + timedelta(days=1)) for day in days]
    polls = [failed("05:30", "P-1"), failed("05:40", "P-1"), failed("05:40", "P-2", "busy"), failed("10:00", "P-2")]
    facts = [read("05:20", "P-0"), read("05:10", "P-1"), read("04:10", "P-2"), *polls]
    (item,) = chased(*days, *facts).items
    assert (item.points, [day.meter_point for day in item.lacking]) == (("P-0", "P-1", "P-2"), ["P-1", "P-2"])
    assert item.contact == Contact(at("04:10"), 3, "no answer")  # that of 10:00 was not known at nine
    (item,) = chased(*days, read("05:10", "P-1")).items
    assert item.contact.heard_at is None  # P-2 was never heard
