"""The validation rules, each at the edge of its limit and one beyond, rejecting or flagging as configured (1.5, 4.8.1(d))."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from metering.facts import ReferenceIndex
from metering.rules import Rules
from metering.validation import RULE_IDS
from tests.metering.domain import Site, View, hours, local, start

DAY = "2026-01-10"
NEXT = "2026-01-11"
BEFORE = "2026-01-09"
USUAL = (
    "malformed", "from_the_future", "clock_invalid", "conflicting_reading", "boundary_mismatch", "negative_advance",
    "excess_flow", "unusual_volume", "stuck_register", "equipment_status",
)  # fmt: skip


def read(index: list[Any], at: list[Any] | None = None, **more: Any) -> View:
    """The ledger of a point registered on the Day before, with one batch."""
    site = Site(BEFORE, index=0)
    site.read(DAY, index, at=at, **more)
    return site.ledger("2026-01-14 12:00")


def test_a_sound_day_fails_no_rule_and_names_those_that_ran_in_their_order() -> None:
    found = read([0, 1000]).day(DAY)
    assert (found.failed, found.ran) == ((), USUAL)
    assert [RULE_IDS.index(rule) for rule in found.ran] == sorted(RULE_IDS.index(rule) for rule in found.ran)


def test_of_a_day_without_readings_no_rule_ran() -> None:
    found = read([0, 1000]).day(NEXT)
    assert (found.failed, found.ran) == ((), ())


# --- malformed --------------------------------------------------------------------------------------------------------------

WRONG = ["x", "100", -1, 10**8, 10**30, 1.5, 100.0, True, [1], {"a": 10**30}]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.clause("1.4.3(a)(i)", "1.5.1")
def test_1_4_3_an_index_that_is_no_integer_of_the_register(wrong: Any) -> None:
    view = read([0, wrong])
    shown = view.records(DAY)
    assert [(each.rule, each.clause, each.at) for each in shown] == [("malformed", "1.4.3", start(DAY, 1))]
    assert str(shown[0].index).replace("'", "") == str(wrong).replace("'", "")
    assert not view.day(DAY).valid
    assert view.day(DAY).failed == ("malformed",)
    assert (view.day(DAY).start_index, view.day(DAY).end_index) == (0, None)


def test_1_4_3_the_greatest_index_of_the_register_is_none() -> None:
    site = Site(BEFORE, index=10**8 - 2)
    site.read(DAY, [10**8 - 1, 5])
    assert site.ledger().rejected(DAY) == []


def test_1_4_3_instants_that_do_not_increase() -> None:
    instants = hours(DAY)
    instants[5], instants[9] = instants[4], instants[3]
    view = read([10 * n for n in range(25)], instants)
    assert [(each.rule, each.at, each.index) for each in view.records(DAY)] == [
        ("malformed", instants[3], 90),
        ("malformed", instants[4], 50),
    ]
    assert view.day(DAY).valid


@pytest.mark.parametrize(
    ("at", "well"),
    [
        (start(DAY, 0, -60), True), (start(DAY, 0, -60.000001), False), (start(DAY, 1, 60), True),
        (start(DAY, 1, 60.000001), False), (start(DAY, 0, 1), True), (start(DAY, 2), False),
    ],
)  # fmt: skip
def test_1_4_3_an_instant_that_the_day_does_not_hold(at: Any, well: bool) -> None:
    view = read([0], [at], received="2026-01-13 06:00")
    assert view.rejected(DAY) == ([] if well else [("malformed", 0)])


def test_1_4_3_an_unknown_meter() -> None:
    view = read([0, 100], meter="X")
    assert view.rejected(DAY) == [("malformed", 0), ("malformed", 100)]
    assert (view.day(DAY).ran, view.day(DAY).failed) == ((), ())  # not this point's meter, not this Day's batch


def test_1_4_3_an_unknown_meters_readings_do_not_spoil_the_day() -> None:
    site = Site(BEFORE)
    site.read(DAY, [0, 100])
    site.read(DAY, [7, 8], meter="X")
    assert site.day(DAY).status == "actual"


def test_1_4_3_no_meter_is_fitted_until_it_is() -> None:
    site = Site(BEFORE, index=None)
    site.read(DAY, [0, 100])
    view = site.ledger("2026-01-12 12:00")
    assert view.rejected(DAY) == [("malformed", 0), ("malformed", 100)]
    site.facts.append(Site(BEFORE, known="2026-01-12 13:00").facts[1])
    view = site.ledger("2026-01-12 13:00")
    assert view.rejected(DAY) == []
    assert view.day(DAY).valid_at == local("2026-01-12 13:00")


def test_1_4_3_no_day_for_it_before_the_registration_date() -> None:
    site = Site(DAY, fitted="2026-01-01 05:00")
    site.read(BEFORE, [50, 60, 100], at=[start(BEFORE), start(BEFORE, 0, 3600), start(DAY)])
    view = site.ledger("2026-01-11 06:00")
    assert view.rejected(BEFORE) == [("malformed", 50), ("malformed", 60)]
    assert view.day(DAY).start_index == 100  # that boundary is the registration date's
    assert not view.has(BEFORE)


def test_1_4_3_no_day_for_it_where_nothing_is_registered() -> None:
    site = Site(BEFORE)
    registered, *others = site.facts
    site.facts = others
    site.read(DAY, [0, 100])
    view = site.ledger()
    assert view.rejected(DAY) == [("malformed", 0), ("malformed", 100)]
    assert not view.has(DAY)
    site.facts.append(registered)
    assert site.day(DAY).status == "actual"


def test_1_4_3_before_the_meter_was_fitted() -> None:
    site = Site(BEFORE, fitted="2026-01-11 14:00")
    site.read(DAY, [0, 0])
    view = site.ledger("2026-01-12 12:00")
    assert view.rejected(DAY) == [("malformed", 0)]
    assert view.day(NEXT).start_index == 0


# --- from the future --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("early_s", "well"), [(59, True), (60, True), (60.000001, False), (3600, False)])
def test_1_5_stamped_later_than_received(early_s: float, well: bool) -> None:
    view = read([0, 100], received=start(DAY, 1, -early_s))
    assert view.rejected(DAY) == ([] if well else [("from_the_future", 100)])
    assert view.day(DAY).valid is well


def test_1_5_a_copy_received_later_does_not_make_it_right() -> None:
    site = Site(BEFORE)
    for received in ("2026-01-10 12:00", "2026-01-11 12:00"):
        site.read(DAY, [0, 100], received=received)
    assert site.ledger().rejected(DAY) == [("from_the_future", 100)]


# --- the clock --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset_s", "well"), [(0.0, True), (300.0, True), (-300.0, True), (300.001, False), (-300.001, False), (86_400.0, False)]
)
def test_1_5_a_clock_that_is_off(offset_s: float, well: bool) -> None:
    view = read([0, 100], clock_offset_s=offset_s)
    assert view.rejected(DAY) == ([] if well else [("clock_invalid", 0), ("clock_invalid", 100)])
    assert view.day(DAY).valid is well


def test_1_5_a_clock_that_says_so_and_one_not_yet_compared() -> None:
    assert read([0, 100], status=("clock_invalid",)).rejected(DAY) == [("clock_invalid", 0), ("clock_invalid", 100)]
    assert read([0, 100]).rejected(DAY) == []


def test_one_rejection_a_reading() -> None:
    assert read([0, "x"], status=("clock_invalid",)).rejected(DAY) == [("clock_invalid", 0), ("malformed", "x")]


# --- advances ---------------------------------------------------------------------------------------------------------------

Q_MAX = "100"  # m³/h: 24 h × 1.01 are 24,240 ticks of 0.1 m³, and one more


@pytest.mark.parametrize(
    ("day", "most"), [("2026-01-10", 24_241), ("2026-03-28", 23_231), ("2026-10-24", 25_251)], ids=["24 h", "23 h", "25 h"]
)
@pytest.mark.parametrize("factor", [None, "1.02264"])
@pytest.mark.clause("1.5.2")
def test_1_5_excess_flow(day: str, most: int, factor: str | None) -> None:
    for advance, well in [(most, True), (most + 1, False)]:
        site = Site(day, q_max=Q_MAX, factor=factor)
        site.read(day, [0, advance])
        view = site.ledger("2026-12-01 12:00" if day > "2026-09" else start(day, 3))
        assert view.rejected(day) == ([] if well else [("excess_flow", advance)])
        assert view.day(day).valid is well
        assert view.day(day).failed == (("unusual_volume",) if well else ("excess_flow",))


def test_1_5_excess_flow_over_the_days_between_two_standing_readings() -> None:
    for advance, well in [(3 * 24_240 + 1, True), (3 * 24_240 + 2, False)]:
        site = Site(BEFORE, q_max=Q_MAX)
        site.read("2026-01-12", [advance, advance])
        view = site.ledger()
        assert view.rejected("2026-01-12") == ([] if well else [("excess_flow", advance)])  # the end of the Day can be
        assert view.day("2026-01-12").valid is well


def test_1_5_negative_advance() -> None:
    site = Site(BEFORE, index=500)
    site.read(DAY, [500, 499])
    view = site.ledger()
    assert view.rejected(DAY) == [("negative_advance", 499)]
    assert not view.day(DAY).valid
    assert view.day(DAY).failed == ("negative_advance",)


@pytest.mark.parametrize(
    ("digits", "q_max", "first", "last", "well"),
    [
        (4, "1000000", 9_000, 3_999, True),  # unwrapped 4,999: below half
        (4, "1000000", 9_000, 4_000, False),  # unwrapped 5,000: half
        (5, "100", 99_999, 24_240, True),  # unwrapped 24,241: as much as can be
        (5, "100", 99_999, 24_241, False),
        (10, "100", 9_999_999_999, 0, True),
    ],
)
def test_1_5_a_roll_over_is_below_half_and_within_excess_flow(
    digits: int, q_max: str, first: int, last: int, well: bool
) -> None:
    site = Site(DAY, digits=digits, q_max=q_max, index=first)
    site.read(DAY, [first, last])
    view = site.ledger()
    assert view.rejected(DAY) == ([] if well else [("negative_advance", last)])
    if well:
        assert view.day(DAY).volume_m3 == Decimal(last + 10**digits - first) / 10


# --- the meter's own index --------------------------------------------------------------------------------------------------

REFERENCES = [  # the equipment's advance, the meter's own, its tick; whether within; deviation
    (1010, 1000, None, True, "0.010000"),
    (1011, 1000, None, False, "0.011000"),
    (990, 1000, None, True, "-0.010000"),
    (989, 1000, None, False, "-0.011000"),
    (51, 50, None, True, "0.020000"),  # one tick is allowed
    (52, 50, None, False, "0.040000"),
    (1, 0, None, True, None),
    (2, 0, None, False, None),
    (0, 0, None, True, None),
    (1010, 100, "1", True, "0.010000"),
    (60, 5, "1", True, "0.200000"),  # one tick of the coarser register is 1 m³
    (61, 5, "1", False, "0.220000"),
    (1000, 10_001, "0.01", True, "-0.000100"),
    (1003, 1000, None, True, "0.003000"),
]


@pytest.mark.parametrize(("equipment", "own", "tick", "within", "deviation"), REFERENCES)
@pytest.mark.clause("1.5.2")
def test_4_8_1d_the_equipment_against_the_meters_own_index(
    equipment: int, own: int, tick: str | None, within: bool, deviation: str | None
) -> None:
    reference = ReferenceIndex(start=70, end=70 + own, m3_per_tick=None if tick is None else Decimal(tick))
    view = read([0, equipment], reference_index=reference)
    record, found = view.tolerance(DAY), view.day(DAY)
    assert record is not None
    assert (record.within, None if record.deviation is None else str(record.deviation)) == (within, deviation)
    assert (record.a, record.b) == (Decimal(equipment) / 10, own * Decimal(tick or "0.1"))
    assert view.rejected(DAY) == ([] if within else [("tolerance_1_percent", None)])
    assert (found.valid, found.failed) == (within, () if within else ("tolerance_1_percent",))
    assert "tolerance_1_percent" in found.ran


def test_4_8_1d_a_rejected_batch_gives_no_reading_to_the_days_beside_it() -> None:
    site = Site(BEFORE)
    site.days(BEFORE, [0, 1000])
    site.read(DAY, [1000, 3000], reference_index=ReferenceIndex(start=0, end=1000))
    site.read("2026-01-12", [3000, 4000])
    view = site.ledger()
    assert (view.day(DAY).start_index, view.day(DAY).end_index) == (1000, None)
    assert (view.day(BEFORE).status, view.day(NEXT).valid) == ("actual", False)
    rejection = view.records(DAY)[0]
    assert (rejection.at, rejection.index, rejection.clause) == (None, None, "4.8.1(d)")


def test_4_8_1d_the_meters_own_index_may_roll_over_and_have_other_digits() -> None:
    reference = ReferenceIndex(start=9_990, end=990, digits=4)
    record = read([0, 1000], reference_index=reference).tolerance(DAY)
    assert record is not None
    assert (record.within, str(record.b)) == (True, "100.000")


def test_4_8_1d_runs_only_where_the_reference_and_both_boundaries_are_there() -> None:
    assert read([0, 1000]).tolerance(DAY) is None
    view = read([0], [start(DAY)], reference_index=ReferenceIndex(start=0, end=1000))
    assert (view.tolerance(DAY), view.rejected(DAY)) == (None, [])


def test_4_8_1d_runs_over_the_readings_of_all_pieces() -> None:
    site = Site(BEFORE)
    site.read(DAY, [0], at=[start(DAY)])
    site.read(DAY, [970], at=[start(DAY, 1)], reference_index=ReferenceIndex(start=0, end=1000), received="2026-01-11 07:00")
    view = site.ledger()
    assert view.rejected(DAY) == [("tolerance_1_percent", None)]
    assert view.records(DAY)[0].received_at == local("2026-01-11 07:00")


# --- the intervals' own volumes ---------------------------------------------------------------------------------------------


def intervals(index: list[Any], volumes: list[str | None], **more: Any) -> View:
    own = tuple(None if volume is None else Decimal(volume) for volume in volumes)
    return read(index, hours(DAY, step=8), interval_m3=own, **more)


@pytest.mark.parametrize(
    ("volumes", "a", "within"),
    [
        (["20.0", "30.0", "51.0"], "101.000", True),
        (["20.0", "30.0", "51.001"], "101.001", False),
        (["20.0", "30.0", "49.0"], "99.000", True),
        (["20.0", "30.0", "48.999"], "98.999", False),
    ],
)
def test_4_8_1d_the_sum_of_the_intervals(volumes: list[str | None], a: str, within: bool) -> None:
    view = intervals([0, 200, 500, 1000], volumes)
    record = view.tolerance(DAY, "interval_sum")
    assert record is not None
    assert (str(record.a), str(record.b), record.within) == (a, "100.000", within)
    assert view.rejected(DAY) == ([] if within else [("interval_sum", None)])


@pytest.mark.parametrize(
    ("index", "volumes", "sums"),
    [
        ([0, 200, 500, 1000], ["20", None, "50"], ("70.000", "70.000")),
        ([0, None, 500, 1000], ["20", "30", "50"], ("50.000", "50.000")),
        ([0, 200, 500, 1000], [None, None, None], None),
    ],
)
def test_4_8_1d_over_the_same_intervals_only(index: list[Any], volumes: list[str | None], sums: tuple[str, str] | None) -> None:
    record = intervals(index, volumes).tolerance(DAY, "interval_sum")
    assert (None if record is None else (str(record.a), str(record.b))) == sums


def test_4_8_1d_a_reading_that_is_rejected_bounds_no_interval() -> None:
    """One wrong reading within the Day is rejected alone, and does not make the whole batch fail."""
    for wrong, rule in [(7, "negative_advance"), (10**7, "excess_flow"), ("x", "malformed")]:
        view = intervals([10, 200, wrong, 1000], ["19", "30", "50"])
        assert view.rejected(DAY) == [(rule, wrong)]
        record = view.tolerance(DAY, "interval_sum")
        assert record is not None
        assert (str(record.a), str(record.b), view.day(DAY).valid) == ("19.000", "19.000", True)


def test_4_8_1d_intervals_that_come_twice_count_once() -> None:
    site = Site(BEFORE)
    instants, own = hours(DAY, step=8), (Decimal(20), Decimal(30), Decimal(50))
    site.read(DAY, [0, 200, 500, 1000], at=instants, interval_m3=own)
    site.read(DAY, [200, 500], at=instants[1:3], interval_m3=own[1:2], received="2026-01-11 09:00")
    record = site.ledger().tolerance(DAY, "interval_sum")
    assert record is not None
    assert (str(record.a), str(record.b)) == ("100.000", "100.000")


def test_4_2_3_a_rejected_batch_without_boundary_readings_leaves_the_day_to_its_neighbours() -> None:
    site = Site(BEFORE)
    site.read(BEFORE, [0, 0])
    site.read(DAY, [200, 500], at=hours(DAY, step=8)[1:3], interval_m3=(Decimal(99),))
    site.read(NEXT, [1000, 1100])
    view = site.ledger()
    assert view.rejected(DAY) == [("interval_sum", None)]
    assert view.day(DAY).valid


def test_history_that_is_too_old_is_rejected_unlooked_at() -> None:
    site = Site(BEFORE, rules=Rules(history_days=30))
    site.read(DAY, [0, 1000], received=start(DAY, 31, -0.000001))
    assert site.day(DAY).determined_status == "restored"
    site = Site(BEFORE, rules=Rules(history_days=30))
    site.read(DAY, [0, 1000], received=start(DAY, 31))
    view = site.ledger()
    assert [rule for rule, _ in view.rejected(DAY)] == ["too_old", "too_old"]
    assert view.day(DAY).determined_status is None


def test_each_reading_keeps_its_own_receipt_in_its_rejection() -> None:
    site = Site(BEFORE)
    site.read(DAY, ["x"], at=[start(DAY)], received="2026-01-10 06:00")
    site.read(DAY, ["y"], at=[start(DAY, 1)], received="2026-01-11 06:30")
    assert [each.received_at for each in site.ledger().records(DAY)] == [local("2026-01-10 06:00"), local("2026-01-11 06:30")]
