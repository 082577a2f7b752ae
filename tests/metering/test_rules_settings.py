"""Rules that only flag, and what configuration changes: actions and parameters, dated by Gas Day (1.5, 5.1.3)."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from metering.facts import ReferenceIndex
from metering.rules import Rules, Validation, load
from metering.validation import RULES
from tests.metering.domain import Site, View, later, start

DAY = "2026-01-10"
NEXT = "2026-01-11"
BEFORE = "2026-01-09"


def read(index: list[Any], **more: Any) -> View:
    """The ledger of a point registered on the Day before, with one batch."""
    site = Site(BEFORE, index=0)
    site.read(DAY, index, **more)
    return site.ledger("2026-01-14 12:00")


def flagging(rule: str, since: str = "0001-01-01") -> Rules:
    return Rules(validation=(Validation(since=date.fromisoformat(since), action={rule: "flag"}),))


# --- rules that only flag ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("converted", "unconverted", "failed"),
    [(50, 100, False), (49, 100, True), (10_000, 100, False), (10_001, 100, True), (0, 100, True), (5, 0, True), (0, 0, None)],
)
@pytest.mark.clause("1.4.3(a)(ii)")
def test_1_5_the_convertors_ratio(converted: int, unconverted: int, failed: bool | None) -> None:
    site = Site(BEFORE, unconverted=(5, "0.1"))
    site.read(DAY, [0, converted], unconverted=(99_990, (99_990 + unconverted) % 10**5))
    view = site.ledger("2026-01-14 12:00")
    found = view.day(DAY)
    assert (found.valid, view.rejected(DAY)) == (True, [])
    assert ("convertor_ratio" in found.ran, "convertor_ratio" in found.failed) == (failed is not None, bool(failed))


@pytest.mark.clause("1.4.3(a)(ii)")
def test_1_5_the_convertors_ratio_needs_both_registers() -> None:
    for pair in [(0, None), (0, "x"), (0, 100_000), (0, -1)]:
        site = Site(BEFORE, unconverted=(5, "0.1"))
        site.read(DAY, [0, 1], unconverted=pair)
        assert "convertor_ratio" not in site.day(DAY).ran
    site = Site(BEFORE)  # no unconverted register is known
    site.read(DAY, [0, 1], unconverted=(0, 1))
    assert "convertor_ratio" not in site.day(DAY).ran


def test_1_5_the_unconverted_index_may_come_with_a_later_piece() -> None:
    site = Site(BEFORE, unconverted=(5, "0.1"))
    site.read(DAY, [0, 1])
    site.read(DAY, [0, 1], unconverted=(0, 100), received="2026-01-11 09:00")
    assert site.day(DAY).failed == ("convertor_ratio",)


@pytest.mark.parametrize(("advance", "unusual"), [(5000, False), (5001, True)])  # 5 × 1,000 kWh
def test_1_5_an_unusual_volume(advance: int, unusual: bool) -> None:
    view = read([0, advance])
    found = view.day(DAY)
    assert (found.failed, found.valid, view.rejected(DAY)) == (("unusual_volume",) if unusual else (), True, [])


def test_1_5_an_unusual_volume_needs_a_calorific_value() -> None:
    site = Site(BEFORE, values=None)
    site.read(DAY, [0, 5001])
    assert "unusual_volume" not in site.day(DAY).ran
    site.value(DAY, "36", received="2026-01-12 12:00")
    assert site.day(DAY).failed == ("unusual_volume",)


@pytest.mark.parametrize(("annual", "stuck"), [("3650", False), ("3651", True)])  # 10 ticks a Day are 10 kWh
def test_1_5_a_register_that_stands_still_for_seven_days(annual: str, stuck: bool) -> None:
    site = Site("2026-01-01", aq=annual)
    site.days("2026-01-01", [0, 1, *[1] * 8, 2])
    view = site.ledger()
    flagged = [later("2026-01-01", n) for n in range(10) if "stuck_register" in view.day(later("2026-01-01", n)).failed]
    assert flagged == (["2026-01-08", "2026-01-09"] if stuck else [])  # the seventh and the eighth without an advance
    assert view.statuses("2026-01-01", 10) == ["actual"] * 10


def test_1_5_standing_still_needs_all_seven_days() -> None:
    site = Site("2026-01-01")
    site.days("2026-01-01", [0, 0, 0])
    site.days("2026-01-04", [0, 0, 0, 0, 0, 0, 0])  # 3 January's batch is missing; its neighbours' readings stand
    view = site.ledger()
    assert [n for n in range(1, 10) if "stuck_register" in view.day(f"2026-01-{n:02}").failed] == [7, 8, 9]
    assert [n for n in range(1, 10) if "stuck_register" in view.day(f"2026-01-{n:02}").ran] == [7, 8, 9]


@pytest.mark.parametrize("status", ["tamper", "battery_low", "reed_switch", "bypass_open"])
def test_5_1_3_what_the_equipment_reports(status: str) -> None:
    view = read([0, 1000], status=(status,))
    assert (view.day(DAY).failed, view.day(DAY).valid, view.rejected(DAY)) == (("equipment_status",), True, [])


# --- actions and parameters are configuration, dated by Gas Day ---------------------------------------------------------------

FLAGGED: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("from_the_future", [0, 100], {"received": start(DAY, 1, -3600)}, "10.000"),
    ("clock_invalid", [0, 100], {"clock_offset_s": 900.0}, "10.000"),
    ("excess_flow", [0, 300_000], {}, "30000.000"),
    ("negative_advance", [100, 90], {}, "-1.000"),
    ("tolerance_1_percent", [0, 100], {"reference_index": ReferenceIndex(start=0, end=200)}, "10.000"),
    ("interval_sum", [0, 100], {"interval_m3": (Decimal(20),)}, "10.000"),
]


@pytest.mark.parametrize(("rule", "index", "more", "volume"), FLAGGED, ids=[each[0] for each in FLAGGED])
def test_1_5_a_rule_that_rejects_by_default_can_be_set_to_flag(
    rule: str, index: list[Any], more: dict[str, Any], volume: str
) -> None:
    strict, lenient = Site(DAY, index=index[0]), Site(DAY, index=index[0], rules=flagging(rule))
    for site in (strict, lenient):
        site.read(DAY, index, **more)
    view = strict.ledger("2026-01-12 12:00")
    assert {each for each, _ in view.rejected(DAY)} == {rule}
    assert (view.day(DAY).valid, view.day(DAY).failed) == (False, (rule,))
    view = lenient.ledger("2026-01-12 12:00")
    assert (view.day(DAY).valid, view.rejected(DAY), str(view.day(DAY).volume_m3)) == (True, [], volume)
    assert rule in view.day(DAY).failed


def test_4_2_3c_set_to_flag_the_readings_may_differ_and_the_one_that_stands_counts() -> None:
    site = Site(BEFORE, rules=flagging("boundary_mismatch"))
    site.read(BEFORE, [0, 100])
    site.read(DAY, [101, 200])
    view = site.ledger()
    assert view.statuses(BEFORE, 2) == ["actual", "actual"]
    assert (view.day(DAY).start_index, view.day(DAY).failed, view.rejected(DAY)) == (100, ("boundary_mismatch",), [])


def test_a_rule_that_flags_names_no_rejection() -> None:
    """A start below the standing one is rejected because it differs, not because it is negative."""
    site = Site(BEFORE, index=50, rules=flagging("negative_advance"))
    site.read(BEFORE, [50, 100])
    site.read(DAY, [40, 200])
    view = site.ledger()
    assert view.rejected(DAY) == [("boundary_mismatch", 40)]
    assert not view.day(DAY).valid


@pytest.mark.clause("1.5.3")
def test_an_entry_holds_from_its_gas_day_on_and_not_before() -> None:
    site = Site(BEFORE, rules=flagging("clock_invalid", since=DAY))
    for day in (BEFORE, DAY):
        site.read(day, [0, 0], clock_offset_s=900.0)
    view = site.ledger("2026-01-12 12:00")
    assert [rule for rule, _ in view.rejected(BEFORE)] == ["clock_invalid"] * 2
    assert view.rejected(DAY) == []
    assert [view.day(day).failed for day in (BEFORE, DAY)] == [("clock_invalid",)] * 2


PARAMETERS: list[tuple[dict[str, Any], list[int], dict[str, Any], str]] = [
    ({"clock_offset_s": 10}, [0, 100], {"clock_offset_s": 10.5}, "clock_invalid"),
    ({"future_s": 0}, [0, 100], {"received": start(DAY, 1, -1)}, "from_the_future"),
    ({"excess_factor": Decimal("0.5")}, [0, 120_002], {}, "excess_flow"),  # 1,000 m³/h × 24 h × 0.5, a tick, and one
    ({"tolerance": Decimal("0.005")}, [0, 1006], {"reference_index": ReferenceIndex(start=0, end=1000)}, "tolerance_1_percent"),
    ({"tolerance": Decimal("0.005")}, [0, 1006], {"interval_m3": (Decimal("100.0"),)}, "interval_sum"),
    ({"convertor_ratio_max": Decimal(1)}, [0, 101], {"unconverted": (0, 100)}, "convertor_ratio"),
    ({"convertor_ratio_min": Decimal(2)}, [0, 199], {"unconverted": (0, 100)}, "convertor_ratio"),
    ({"unusual_factor": Decimal("0.5")}, [0, 501], {}, "unusual_volume"),
    ({"stuck_days": 1}, [0, 0], {}, "stuck_register"),
]


@pytest.mark.parametrize(("parameters", "index", "more", "rule"), PARAMETERS)
@pytest.mark.clause("1.5.3")
def test_parameters_are_dated_too(parameters: dict[str, Any], index: list[int], more: dict[str, Any], rule: str) -> None:
    for since, failed in [(DAY, True), (NEXT, False)]:
        rules = Rules(validation=(Validation(), Validation(since=date.fromisoformat(since), **parameters)))
        site = Site(DAY, rules=rules, unconverted=(8, "0.1"))
        site.read(DAY, index, **more)
        found = site.day(DAY, "2026-01-13 12:00").failed
        assert (rule in found) is failed
        assert set(found) <= ({rule, "unusual_volume"} if rule == "excess_flow" else {rule})


def test_a_rule_may_look_back_farther_than_a_week() -> None:
    site = Site("2026-01-01", rules=Rules(validation=(Validation(stuck_days=20),)))
    site.days("2026-01-01", [0, 5, *[5] * 24])
    view = site.ledger()
    assert [n for n in range(1, 26) if "stuck_register" in view.day(f"2026-01-{n:02}").failed] == [21, 22, 23, 24, 25]


TOML = b"""
close_out_days = 3

[[validation]]
since = 2026-01-10
clock_offset_s = 900

[validation.action]
tolerance_1_percent = "flag"
"""


def test_rules_come_from_toml() -> None:
    rules = load(TOML)
    before, since = (rules.of(date.fromisoformat(day).toordinal()) for day in (BEFORE, DAY))
    assert (rules.close_out_days, before.clock_offset_s, since.clock_offset_s) == (3, 300, 900)
    assert (before.rejects("tolerance_1_percent"), since.rejects("tolerance_1_percent")) == (True, False)
    assert since.rejects("excess_flow")  # the rest is as in the table


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('zone = "Mars"', "zone: 'Mars' is no time zone"),
        ("close_out_days = -1", "close_out_days: -1 is not 0 or more"),
        ("history_days = 0", "history_days: 0 is not 1 or more"),
        ("boundary_s = 0", "boundary_s: 0 is not between 1 and 1799"),
        ("boundary_s = 1800", "boundary_s: 1800 is not between 1 and 1799"),
        ("day_starts = []", "day_starts: at least one entry"),
        ("validation = []", "validation: entries must be in the order of `since`"),
        ("[[validation]]\nsince=2026-01-02\n[[validation]]\nsince=2026-01-01", "in the order of `since`"),
        ("[[validation]]\nexcess_factor = 'NaN'", "excess_factor: NaN is not a number"),
        ("[[validation]]\ntolerance = '-0.01'", "tolerance: -0.01 is not 0 or more"),
        ("[[validation]]\nstuck_days = 0", "stuck_days: 0 is not 1 or more"),
        ("[[validation]]\nconvertor_ratio_min = '200'", "convertor_ratio_min: 200 is above convertor_ratio_max"),
        ("[[validation]]\naction.tolerance = 'flag'", "action.tolerance: no such rule; there are malformed, "),
        ("[[validation]]\naction.malformed = 'flag'", "action.malformed: found flag; allowed: reject"),
        ("[[validation]]\naction.stuck_register = 'reject'", "action.stuck_register: found reject; allowed: flag, off"),
        ("[[validation]]\naction.excess_flow = 'ignore'", "Invalid enum value 'ignore'"),
        ("nonsense = 1", "unknown field `nonsense`"),
        ("= 1", "Invalid"),
    ],
)
def test_wrong_settings_say_what_is_wrong(toml: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        load(toml.encode())


# --- rules that are off -------------------------------------------------------------------------------------------------------

OFF: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "from_the_future": ([0, 100], {"received": "2026-01-11 04:00"}),
    "clock_invalid": ([0, 100], {"status": ("clock_invalid",)}),
    "excess_flow": ([0, 260_000], {}),
    "tolerance_1_percent": ([0, 100], {"reference_index": ReferenceIndex(start=0, end=110)}),
    "equipment_status": ([0, 100], {"status": ("tamper",)}),
}


@pytest.mark.parametrize(("rule", "case"), OFF.items(), ids=OFF)
def test_1_5_a_rule_that_is_off_neither_runs_nor_fails(rule: str, case: tuple[list[Any], dict[str, Any]]) -> None:
    found = {}
    for action in ("flag", "off"):
        site = Site(BEFORE, index=0, rules=Rules(validation=(Validation(action={rule: action}),)))
        site.read(DAY, case[0], **case[1])
        view = site.ledger("2026-01-14 12:00")
        day = view.day(DAY)
        found[action] = (rule in day.ran, rule in day.failed, day.valid, view.rejected(DAY))
    assert found == {"flag": (True, True, True, []), "off": (False, False, True, [])}


def test_1_5_the_table_names_each_rule_once_with_the_function_of_that_name() -> None:
    assert [rule.check.__name__ for rule in RULES] == [rule.id for rule in RULES]
    assert len({rule.check for rule in RULES}) == len(RULES)
