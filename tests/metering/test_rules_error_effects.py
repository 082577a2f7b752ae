"""What Daily Read Error Notices change: what is used of a Day, and what counts as Valid (4.8.7 to 4.8.12).

See `errors.py` for the words. 8 January 2026 is a Thursday; its Exit Close-Out is the start of the 14th.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from metering.read_error import Deemed
from tests.metering.domain import later, local, start
from tests.metering.errors import DAY, MICROSECOND, Errors, noticed

CLOSE_OUT = start(DAY, 6)
LATE = "2026-03-01 12:00"


def faulty(estimate: str | None = "115") -> Errors:
    """The transporter says on the 12th that the equipment does not work."""
    errors = noticed()
    errors.inspected("2026-01-12 12:00", works=False, estimate=estimate)
    return errors


# --- 4.8.8: before the Exit Close-Out ---------------------------------------------------------------------------------------


@pytest.mark.clause("4.8.8(a)")
def test_4_8_8_a_an_estimate_accepted_by_the_exit_close_out_takes_the_readings_place() -> None:
    errors = faulty()
    errors.accepted(CLOSE_OUT)
    for now in (CLOSE_OUT, local(LATE)):
        found = errors.at(now)
        assert (found.substitute(), found.revised(), found.volume()) == ((115_000, "4.8.8(a)"), None, "115.000")
    assert errors.at(CLOSE_OUT - MICROSECOND).substitute() is None


@pytest.mark.clause("4.8.3(c)", "4.8.10(a)")
def test_4_8_10_an_estimate_accepted_later_makes_an_error_revised_quantity() -> None:
    errors = faulty()
    accepted = CLOSE_OUT + MICROSECOND
    errors.accepted(accepted)
    found = errors.at(LATE)
    assert (found.substitute(), found.revised()) == (None, (115_000, accepted))
    assert errors.at(CLOSE_OUT).revised() is None


@pytest.mark.clause("4.8.8(a)")
def test_4_8_8_a_needs_an_estimate_and_not_only_acceptance() -> None:
    errors = noticed()
    errors.inspected("2026-01-12 12:00", works=True)
    errors.accepted("2026-01-13 12:00")
    found = errors.at(LATE)
    assert (found.substitute(), found.revised(), found.volume()) == (None, None, "100.000")


@pytest.mark.clause("4.8.8(a)")
def test_4_8_8_a_a_final_statement_may_still_be_accepted_by_the_exit_close_out() -> None:
    errors = faulty()  # final from the 20th on
    errors.close_out[DAY] = "2026-01-26 05:00"  # the point became known on the 20th
    errors.accepted("2026-01-22 12:00")
    assert (errors.at("2026-01-21 12:00").state(), errors.at("2026-01-21 12:00").substitute()) == ("final", None)
    found = errors.at(LATE)
    assert (found.state(), found.substitute(), found.revised()) == ("accepted", (115_000, "4.8.8(a)"), None)
    errors.facts.pop()
    assert errors.at(LATE).revised() == (115_000, local("2026-01-26 05:00"))


@pytest.mark.clause("4.8.8(b)")
def test_4_8_8_b_what_was_agreed_by_the_exit_close_out_takes_the_readings_place() -> None:
    errors = noticed()
    errors.agreed("2026-01-10 12:00", "118.0005")  # to the litre, half up
    errors.agreed("2026-01-13 12:00", "119")
    errors.agreed(CLOSE_OUT + MICROSECOND, "130")  # 4.8.10: what was used stays
    assert errors.at("2026-01-10 12:00").substitute() == (118_001, "4.8.8(b)")
    found = errors.at(LATE)
    assert (found.state(), found.volume(), found.record().due) == ("agreed", "119.000", None)
    assert (found.substitute(), found.revised()) == ((119_000, "4.8.8(b)"), None)


@pytest.mark.clause("4.8.8(b)")
def test_4_8_8_b_agreement_comes_before_an_accepted_estimate() -> None:
    errors = faulty()
    errors.accepted("2026-01-12 13:00")
    errors.agreed("2026-01-12 14:00", "117")
    assert errors.at(LATE).substitute() == (117_000, "4.8.8(b)")


def test_4_8_8_an_agreement_holds_from_the_notice_on() -> None:
    errors = Errors()
    errors.agreed("2026-01-10 12:00", "118")
    assert errors.at("2026-01-12 09:00").effects == ([], {}, {}, {}, None)
    errors.notice("2026-01-12 10:00")
    assert errors.at("2026-01-12 10:00").substitute() == (118_000, "4.8.8(b)")
    errors = Errors()
    errors.agreed("2026-01-10 12:00", "118")
    errors.notice(CLOSE_OUT + timedelta(hours=1))  # in time as a notice, too late for 4.8.8
    assert errors.at(LATE).revised() == (118_000, CLOSE_OUT + timedelta(hours=1))


def test_4_8_8_no_readings_nothing_in_their_place() -> None:
    errors = faulty()
    errors.accepted("2026-01-13 12:00")
    errors.provided[DAY] = "2026-01-14 04:00"  # provided an hour before the close-out
    assert errors.at("2026-01-14 03:00").substitute() is None
    assert errors.at("2026-01-14 04:00").substitute() == (115_000, "4.8.8(a)")
    errors.failed.add(DAY)
    found = errors.at("2026-01-14 05:00")
    assert (found.substitute(), found.revised(), found.deemed(), found.state()) == (None, None, None, "refused")


@pytest.mark.clause("4.8.8(a)")
def test_4_8_8_a_of_a_shared_point_all_who_gave_notice_must_have_accepted() -> None:
    errors = faulty()
    errors.notice("2026-01-12 13:00", "130", user="V")
    errors.accepted("2026-01-13 12:00")
    assert errors.at("2026-01-13 13:00").substitute() is None
    errors.accepted("2026-01-13 14:00", user="V")
    assert errors.at(LATE).substitute() == (115_000, "4.8.8(a)")
    errors.facts.pop()
    errors.rejected("2026-01-13 14:00", user="V")
    assert (errors.at(LATE).substitute(), errors.at(LATE).revised()) == (None, (115_000, CLOSE_OUT))
    errors.expert("2026-02-02 12:00", works=False, volume="125")  # better than the transporter's, of the same Day
    assert errors.at(LATE).revised() == (125_000, local("2026-02-02 12:00"))


@pytest.mark.clause("4.8.8(a)")
def test_4_8_8_a_of_a_shared_point_nobody_waits_for_a_notice_that_came_after_the_close_out() -> None:
    errors = faulty()
    errors.accepted("2026-01-13 12:00")
    errors.notice("2026-01-14 12:00", "130", user="V")
    errors.rejected("2026-01-15 12:00", user="V")
    errors.expert("2026-02-02 12:00", works=False, volume="125")
    found = errors.at(LATE)
    assert (found.substitute(), found.revised(), found.volume(user="V")) == ((115_000, "4.8.8(a)"), None, "125.000")


# --- 4.8.10: the Error Revised Quantity -------------------------------------------------------------------------------------


@pytest.mark.clause("4.8.10(a)")
def test_4_8_10_a_statement_that_becomes_final() -> None:
    errors = faulty()
    assert errors.at("2026-01-20 04:59").revised() is None
    assert errors.at("2026-01-20 05:00").revised() == (115_000, local("2026-01-20 05:00"))


@pytest.mark.clause("4.8.6(a)", "4.8.10(a)")
def test_4_8_10_an_experts_determination_or_his_finding_that_the_equipment_works() -> None:
    for works, revised in [(False, (117_000, local("2026-02-02 12:00"))), (True, None)]:
        errors = noticed()
        errors.inspected("2026-01-12 12:00", works=True)
        errors.rejected("2026-01-13 12:00")
        errors.expert("2026-02-02 12:00", works=works, volume="117")
        assert errors.at(LATE).revised() == revised


def test_4_8_10_an_expert_before_the_close_out_revises_from_it_on() -> None:
    errors = faulty()
    errors.rejected("2026-01-12 13:00")
    errors.expert("2026-01-12 14:00", works=False, volume="117")
    assert (errors.at("2026-01-13 12:00").substitute(), errors.at("2026-01-13 12:00").revised()) == (None, None)
    assert errors.at("2026-01-13 12:00").next_due == CLOSE_OUT
    assert errors.at(CLOSE_OUT).revised() == (117_000, CLOSE_OUT)


def test_4_8_10_agreement_after_the_close_out_replaces_what_was_established() -> None:
    errors = faulty()
    errors.agreed("2026-02-10 12:00", "119")
    errors.agreed("2026-02-11 12:00", "118")
    assert errors.at("2026-02-01 12:00").revised() == (115_000, local("2026-01-20 05:00"))
    found = errors.at(LATE)
    assert (found.state(), found.volume(), found.revised()) == ("agreed", "118.000", (118_000, local("2026-02-11 12:00")))


# --- 4.8.7: further Days, and the inspection that is due or was made --------------------------------------------------------


def test_4_8_7_an_inspection_that_is_due_already_serves_subsequent_days() -> None:
    errors = noticed()  # on Friday the 9th: due at the end of Wednesday the 14th
    errors.notice("2026-01-12 10:00", day="2026-01-11")
    errors.notice("2026-01-12 10:00", day="2026-01-07")  # not subsequent
    errors.notice("2026-01-12 10:00", day="2026-01-11", user="V")  # another User
    found = errors.at("2026-01-12 10:00")
    due = [found.record(*key).due for key in [("2026-01-11", "U"), ("2026-01-07", "U"), ("2026-01-11", "V")]]
    assert due == [local("2026-01-15 05:00"), local("2026-01-16 05:00"), local("2026-01-16 05:00")]


@pytest.mark.clause("4.8.7(b)(i)")
def test_4_8_7_an_inspection_on_or_after_the_day_is_its_inspection_too() -> None:
    errors = noticed()
    errors.inspected("2026-01-12 12:00", works=True)
    errors.notice("2026-01-13 10:00", day="2026-01-11")
    errors.notice("2026-01-13 10:00", day="2026-01-12")  # the Day of the inspection
    errors.notice("2026-01-14 10:00", day="2026-01-13")  # the Day after it
    found = errors.at("2026-01-14 10:00")
    assert [found.state(day) for day in ("2026-01-11", "2026-01-12", "2026-01-13")] == ["inspected", "inspected", "notice"]
    assert found.record("2026-01-11").due == local("2026-01-21 05:00")  # five Business Days after that notice
    assert errors.at(LATE).state("2026-01-11") == "final"
    assert errors.at(LATE).record("2026-01-11").inspection_cost is None  # it is borne for the first Day
    assert errors.at(LATE).record().inspection_cost == "user"


def test_4_8_7_the_transporter_states_each_days_estimate() -> None:
    errors = noticed()
    errors.notice("2026-01-11 10:00", day="2026-01-10")
    errors.inspected("2026-01-12 12:00", works=False, estimate="115", at="2026-01-12 09:00")
    found = errors.at("2026-01-12 12:00")
    assert (found.state("2026-01-10"), found.record("2026-01-10").due) == ("inspected", None)  # its estimate is missing
    errors.inspected("2026-01-12 15:00", works=False, estimate="111", day="2026-01-10", at="2026-01-12 09:00")
    found = errors.at(LATE)
    assert (found.volume(), found.volume("2026-01-10")) == ("115.000", "111.000")
    assert (found.record().inspection_cost, found.record("2026-01-10").inspection_cost) == ("transporter", None)


@pytest.mark.parametrize(
    ("until", "state"),
    [(None, "inspected"), ("2026-01-14 06:00", "inspected"), ("2026-01-14 05:00", "notice"), ("2026-01-13 05:00", "notice")],
)
@pytest.mark.clause("4.8.7(b)(ii)")
def test_4_8_7_b_ii_a_fault_that_was_found_serves_until_its_repair(until: str | None, state: str) -> None:
    errors = faulty()
    errors.fault("2026-01-12 13:00", since="2026-01-05 05:00", until=until)
    errors.notice("2026-01-15 10:00", day="2026-01-14")
    assert errors.at("2026-01-15 10:00").state("2026-01-14") == state


def test_4_8_7_a_fault_not_known_to_last_does_not_serve_later_days() -> None:
    errors = faulty()
    errors.notice("2026-01-15 10:00", day="2026-01-14")
    assert errors.at("2026-01-15 10:00").record("2026-01-14").due == local("2026-01-21 05:00")


# --- 4.8.9: later Days, by agreement ----------------------------------------------------------------------------------------


def test_4_8_9_an_agreed_adjustment_of_a_later_day_takes_the_readings_place() -> None:
    errors = faulty()
    errors.agreed("2026-01-13 12:00", "112", day="2026-01-10")
    found = errors.at(LATE)
    assert (found.substitute("2026-01-10"), found.revised("2026-01-10")) == ((112_000, "4.8.9"), None)
    assert [record.gas_day.isoformat() for record in found.effects.records] == [DAY]  # no notice, no record


def test_4_8_9_after_the_close_out_it_makes_an_error_revised_quantity() -> None:
    errors = faulty()
    errors.agreed("2026-01-16 05:00", "112", day="2026-01-10")  # at its close-out
    errors.agreed("2026-01-16 05:01", "113", day="2026-01-09")  # long after
    found = errors.at(LATE)
    assert (found.substitute("2026-01-10"), found.revised("2026-01-10")) == ((112_000, "4.8.9"), None)
    assert (found.substitute("2026-01-09"), found.revised("2026-01-09")) == (None, (113_000, local("2026-01-16 05:01")))


def test_4_8_9_nothing_without_a_daily_read_error_day_before_it() -> None:
    errors = noticed()
    errors.agreed("2026-01-09 12:00", "112", day="2026-01-07")
    assert errors.at("2026-01-12 12:00").effects.substitutes == {}


def test_4_8_2_what_rested_on_a_notice_stays_when_its_day_turns_out_to_have_failed() -> None:
    errors = noticed()
    errors.failed.add(DAY)
    errors.notice("2026-01-12 10:00", day="2026-01-11")
    errors.inspected("2026-01-12 12:00", works=False)
    errors.agreed("2026-01-13 12:00", "112", day="2026-01-10")
    errors.agreed("2026-01-14 12:00", "113", day="2026-01-09")  # when the 8th was closed out as failed
    found = errors.at(LATE)
    assert (found.state(), found.state("2026-01-11")) == ("refused", "inspected")
    assert (found.substitute("2026-01-10"), found.substitute("2026-01-09")) == ((112_000, "4.8.9"), None)


@pytest.mark.parametrize(("day", "counts"), [("2026-01-12", True), ("2026-01-13", False)])
def test_4_8_9_until_the_day_of_the_inspection_that_finds_the_equipment_in_order(day: str, counts: bool) -> None:
    errors = noticed()
    errors.inspected("2026-01-12 12:00", works=True)
    errors.agreed("2026-01-14 12:00", "112", day=day)
    assert errors.at("2026-01-14 12:00").substitute(day) == ((112_000, "4.8.9") if counts else None)


def test_4_8_9_or_the_day_of_repair() -> None:
    errors = faulty()
    errors.fault("2026-01-15 13:00", since="2026-01-08 05:00", until="2026-01-15 12:00")
    for day in ("2026-01-15", "2026-01-16"):
        errors.agreed("2026-01-17 12:00", "112", day=day)
    assert set(errors.at("2026-01-17 12:00").effects.substitutes) == {start("2026-01-15").toordinal()}


# --- 4.8.12: what counts as Valid -------------------------------------------------------------------------------------------


@pytest.mark.clause("4.8.12(a)(i)")
def test_4_8_12_a_i_readings_of_equipment_that_does_not_work_are_not_valid() -> None:
    errors = faulty()
    assert errors.at("2026-01-12 11:59").deemed() is None
    assert errors.at("2026-01-12 12:00").deemed() == errors.at(LATE).deemed() == Deemed(False, "4.8.12(a)(i)")


@pytest.mark.clause("4.8.12(a)(ii)")
def test_4_8_12_a_ii_nor_are_readings_instead_of_which_something_else_was_agreed() -> None:
    for received in ("2026-01-10 12:00", "2026-02-10 12:00"):
        for volume, deemed in [("118", Deemed(False, "4.8.12(a)(ii)")), ("100", None)]:
            errors = noticed()
            errors.agreed(received, volume)
            assert errors.at(LATE).deemed() == deemed


@pytest.mark.parametrize("own_notice", [False, True])
@pytest.mark.clause("4.8.12(b)")
def test_4_8_12_b_adjusted_days_are_valid_for_the_next_six_days(own_notice: bool) -> None:
    errors = faulty()
    days = [later(DAY, n) for n in range(1, 8)]
    for day in days:
        if own_notice:
            errors.notice(start(day, 1, 5 * 3600), day=day)
        errors.agreed(start(day, 1, 6 * 3600), "112", day=day)
    found = errors.at(LATE)
    seventh = Deemed(False, "4.8.12(a)(ii)") if own_notice else None
    assert [found.deemed(day) for day in days] == [Deemed(True, "4.8.12(b)")] * 6 + [seventh]


@pytest.mark.clause("4.8.12(b)")
def test_4_8_12_b_not_where_the_quantity_was_revised_after_its_close_out() -> None:
    errors = faulty()
    errors.agreed("2026-02-10 12:00", "112", day="2026-01-10")
    assert errors.at(LATE).deemed("2026-01-10") is None


@pytest.mark.clause("4.8.12(c)(i)")
def test_4_8_12_c_rejecting_a_statement_that_it_works_leaves_the_readings_valid() -> None:
    errors = noticed()
    errors.inspected("2026-01-12 12:00", works=True)
    errors.rejected("2026-01-13 12:00")
    assert errors.at(LATE).deemed() is None
    errors.expert("2026-02-02 12:00", works=False, volume="118")
    assert errors.at(LATE).deemed() is None  # (c)(ii) is about Days from the determination on


@pytest.mark.parametrize(("repaired", "valid_again"), [(None, False), ("2026-02-04 12:00", True), ("2026-02-05 12:00", False)])
@pytest.mark.clause("4.8.12(c)(ii)")
def test_4_8_12_c_ii_daily_read_error_days_between_the_experts_finding_and_the_repair(
    repaired: str | None, valid_again: bool
) -> None:
    errors = noticed()
    errors.inspected("2026-01-12 12:00", works=True)
    errors.rejected("2026-01-13 12:00")
    errors.expert("2026-02-02 12:00", works=False, volume="118")
    for day in ("2026-02-01", "2026-02-02", "2026-02-04"):
        errors.notice(start(day, 1, 5 * 3600), day=day)
    if repaired:
        errors.fault("2026-02-06 12:00", since="2026-01-08 05:00", until=repaired)
    found = errors.at(LATE)
    not_valid = Deemed(False, "4.8.12(c)(ii)")
    assert [found.deemed(day) for day in ("2026-02-01", "2026-02-02", "2026-02-03")] == [None, not_valid, None]
    assert found.deemed("2026-02-04") == (None if valid_again else not_valid)


@pytest.mark.clause("4.8.12(c)(ii)")
def test_4_8_12_c_ii_is_not_about_a_fault_that_the_transporter_found_itself() -> None:
    errors = faulty()
    errors.rejected("2026-01-13 12:00")
    errors.expert("2026-02-02 12:00", works=False, volume="118")
    errors.notice("2026-02-04 12:00", day="2026-02-03")
    assert errors.at(LATE).deemed("2026-02-03") is None
