"""Who bears the costs of inspections and experts after a Daily Read Error Notice (4.8.5, 4.8.6(b)). The readings say 100 m³;
see `errors.py` for the words."""

from __future__ import annotations

import pytest

from tests.metering.errors import DAY, noticed, rejected

# The readings say 100.000 m³.
# User's estimate, equipment works, the transporter's estimate, meter works; who bears it: at once, in the end
INSPECTION_COST = [
    ("109.999", False, "150", True, "user", "user"),  # (a): less than 10% off
    ("90.001", False, "50", True, "user", "user"),
    ("109.999", False, "150", False, "user", "user"),  # (a) comes before (c)
    ("110", False, "150", True, None, "transporter"),  # exactly 10% is not less
    ("90", True, None, True, None, "user"),  # (b)(i)(1)
    ("120", False, "115", True, None, "transporter"),  # (b)(i)(2)
    ("120", True, None, False, "transporter", "transporter"),  # (c): the meter itself reads erroneously
]


@pytest.mark.parametrize(("user", "works", "estimate", "meter_works", "at_once", "settled"), INSPECTION_COST)
@pytest.mark.clause("4.8.5(a)", "4.8.5(b)(i)", "4.8.5(c)")
def test_4_8_5_who_bears_the_inspection_without_a_rejection(
    user: str, works: bool, estimate: str | None, meter_works: bool, at_once: str | None, settled: str
) -> None:
    for answered in (True, False):
        errors = noticed(user)
        errors.inspected("2026-01-12 12:00", works=works, estimate=estimate, meter_works=meter_works)
        assert errors.at("2026-01-12 12:00").record().inspection_cost == at_once
        if answered:
            errors.accepted("2026-01-13 12:00")
        assert errors.at("2026-01-20 05:00").record().inspection_cost == settled
        assert errors.at("2026-01-20 05:00").record().expert_cost is None


@pytest.mark.parametrize(
    ("readings", "user", "cost"), [(0, "0", "user"), (0, "0.001", None), (-100_000, "0", None), (-1, "0", None)]
)
@pytest.mark.clause("4.8.5(a)")
def test_4_8_5_a_ten_percent_of_the_readings_volume_whatever_that_is(readings: int, user: str, cost: str | None) -> None:
    errors = noticed(user)
    errors.litres[DAY] = readings
    errors.inspected("2026-01-12 12:00", works=True)
    assert errors.at("2026-01-12 12:00").record().inspection_cost == cost


AFTER_REJECTION = [
    # equipment works, transporter's estimate; expert: works, volume; User 120; what counts, inspection's and expert's cost
    (True, None, True, "0", "100.000", "user", "user"),  # both say that it works: whatever volume is given
    (True, None, False, "118", "118.000", "transporter", "transporter"),  # 2 from the User's, 18 from the readings'
    (True, None, False, "104", "104.000", "user", "user"),  # nearer to the readings, which the transporter stands by
    (True, None, False, "110", "110.000", "user", "transporter"),  # as near: closer to neither
    (False, "112", False, "117", "117.000", "transporter", "transporter"),
    (False, "112", False, "113", "113.000", "user", "user"),
    (False, "112", False, "116", "116.000", "user", "transporter"),
    (False, "112", True, "119", "119.000", "transporter", "transporter"),  # he is not asked whether it works: 4.8.6(a)(i)
]  # fmt: skip


@pytest.mark.parametrize(("works", "estimate", "expert", "says", "volume", "inspection", "expert_cost"), AFTER_REJECTION)
@pytest.mark.clause("4.8.5(b)(ii)", "4.8.6(b)")
def test_4_8_5_b_ii_and_4_8_6_b_costs_after_a_rejection(
    works: bool, estimate: str | None, expert: bool, says: str, volume: str, inspection: str, expert_cost: str
) -> None:
    errors = rejected(works, estimate)
    waiting = errors.at("2026-02-01 12:00").record()
    assert (waiting.state, waiting.due, waiting.inspection_cost, waiting.expert_cost) == ("rejected", None, None, None)
    errors.expert("2026-02-02 12:00", works=expert, volume=says)
    found = errors.at("2026-02-02 12:00").record()
    assert (found.state, str(found.volume_m3)) == ("expert", volume)
    assert (found.inspection_cost, found.expert_cost) == (inspection, expert_cost)


@pytest.mark.clause("4.8.5(a)", "4.8.5(c)")
def test_4_8_5_c_and_a_hold_after_a_rejection_too() -> None:
    assert rejected(True, None, meter_works=False).at("2026-01-13 12:00").record().inspection_cost == "transporter"
    assert rejected(True, None, user="101").at("2026-01-13 12:00").record().inspection_cost == "user"


@pytest.mark.parametrize(
    ("works", "estimate", "agreed", "cost"),
    [
        (True, None, "118", "transporter"),
        (True, None, "100", "user"),
        (True, None, "104", "user"),
        (False, "112", "117", "transporter"),
    ],
)
@pytest.mark.clause("4.8.5(b)(ii)")
def test_4_8_5_b_ii_agreement_after_a_rejection(works: bool, estimate: str | None, agreed: str, cost: str) -> None:
    errors = rejected(works, estimate)
    errors.agreed("2026-01-20 12:00", agreed)
    found = errors.at("2026-01-20 12:00").record()
    assert (found.state, found.volume_m3 == int(agreed), found.inspection_cost) == ("agreed", True, cost)
    assert found.expert_cost is None


def test_4_8_5_an_inspection_after_an_agreement_still_costs() -> None:
    errors = noticed()
    errors.agreed("2026-01-10 12:00", "118")
    assert errors.at("2026-01-11 12:00").record().inspection_cost is None
    errors.inspected("2026-01-12 12:00", works=True)
    found = errors.at("2026-01-12 12:00").record()
    assert (found.state, str(found.volume_m3), found.inspection_cost) == ("agreed", "118.000", "user")


def test_4_8_6_a_user_may_still_accept_what_it_rejected() -> None:
    errors = rejected(False, "112")
    errors.accepted("2026-01-14 12:00")
    found = errors.at("2026-01-14 12:00").record()
    assert (found.state, str(found.volume_m3), found.inspection_cost) == ("accepted", "112.000", "user")


@pytest.mark.clause("4.8.6(a)")
def test_4_8_6_an_expert_counts_only_after_a_rejection_and_may_correct_himself() -> None:
    errors = noticed()
    errors.inspected("2026-01-12 12:00", works=True)
    errors.expert("2026-01-13 12:00", works=False, volume="118")
    assert errors.at("2026-01-20 05:00").state() == "final"
    errors = rejected(True, None)
    errors.expert("2026-02-02 12:00", works=False, volume="118")
    errors.expert("2026-02-03 12:00", works=False, volume="103")
    found = errors.at("2026-02-03 12:00").record()
    assert (str(found.volume_m3), found.inspection_cost, found.expert_cost) == ("103.000", "user", "user")
