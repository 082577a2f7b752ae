"""Daily Read Error Notices: what was received and when, and how the notice stands (4.8.2 to 4.8.4, 4.8.6).

See `errors.py` for the words. Who pays is in `test_rules_error_costs.py`, what is used of the Days and what counts as Valid in
`test_rules_error_effects.py`.
"""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from metering.rules import Rules
from tests.metering.domain import local, start
from tests.metering.errors import DAY, FRIDAY, MICROSECOND, Errors, noticed, rejected

# --- 4.8.2: who may give notice, of what, until when ------------------------------------------------------------------------

LAST_NOTICE = [  # Day, when its readings were provided, the last instant for a notice
    ("2026-01-08", "2026-01-09 06:00", "2026-01-15 05:00"),  # the Day of the 9th, and five more
    ("2026-01-08", "2026-01-10 04:59", "2026-01-15 05:00"),  # still the Day of the 9th
    ("2026-01-08", "2026-01-10 05:00", "2026-01-16 05:00"),
    ("2026-01-29", "2026-01-30 06:00", "2026-02-05 05:00"),  # over a month's end; Days, not Business Days
    ("2025-12-24", "2025-12-25 06:00", "2025-12-31 05:00"),
    ("2024-02-24", "2024-02-25 06:00", "2024-03-02 05:00"),  # a leap day
    ("2026-03-24", "2026-03-25 06:00", "2026-03-31 05:00"),  # the clocks go forward on the 29th
    ("2026-10-20", "2026-10-21 06:00", "2026-10-27 05:00"),  # and back on the 25th
    ("2015-09-23", "2015-09-24 07:00", "2015-09-30 06:00"),  # Days begin at 06:00 before 1 October 2015
    ("2015-09-24", "2015-09-25 07:00", "2015-10-01 05:00"),
]


@pytest.mark.parametrize(("day", "provided", "last"), LAST_NOTICE)
@pytest.mark.clause("4.8.2(a)")
def test_4_8_2_notice_may_be_given_until_the_end_of_the_fifth_day_after_provision(day: str, provided: str, last: str) -> None:
    for after, state in [(timedelta(0), "notice"), (MICROSECOND, "refused")]:
        errors = Errors()
        errors.provided[day] = provided
        errors.notice(local(last) + after, day=day)
        found = errors.at(local(last) + after).record(day)
        assert (found.state, found.refused) == (state, "4.8.2" if state == "refused" else None)


def test_4_8_2_a_notice_before_the_readings_were_provided_is_in_time() -> None:
    errors = noticed(received="2026-01-08 22:00")
    assert errors.at("2026-01-08 23:00").state() == errors.at("2026-01-09 12:00").state() == "notice"


def test_4_8_2_not_of_a_day_that_has_not_begun() -> None:
    errors = noticed(received="2026-01-08 04:59")
    assert [errors.at(now).state() for now in ("2026-01-08 04:59", "2026-01-20 12:00")] == ["refused"] * 2


def test_4_8_2_not_by_somebody_else() -> None:
    errors = Errors()
    errors.notice(FRIDAY, user="X")
    assert errors.at(FRIDAY).record(user="X").refused == "4.8.2"


def test_4_8_2_not_of_a_failed_daily_read_day() -> None:
    errors = noticed()
    errors.failed.add(DAY)
    found = errors.at("2026-01-14 05:00").record()
    assert (found.state, found.due, found.volume_m3, found.refused) == ("refused", None, None, "4.8.2")
    assert errors.at("2026-01-14 04:59").state() == "notice"  # it was not closed out yet


def test_4_8_2_a_day_whose_readings_never_came_ends_a_notice_that_came_before_them() -> None:
    errors = noticed()
    errors.provided[DAY] = None
    errors.inspected("2026-01-12 12:00", works=False, estimate="115")
    errors.accepted("2026-01-12 13:00")
    before, after = errors.at("2026-01-13 12:00"), errors.at("2026-01-14 05:00")
    assert (before.state(), before.substitute()) == ("accepted", None)
    assert (after.state(), after.substitute(), after.revised(), after.deemed()) == ("refused", None, None, None)


@pytest.mark.clause("4.8.2(b)")
def test_4_8_2_a_later_notice_corrects_the_estimate_until_the_transporter_has_answered() -> None:
    errors = noticed("105")  # 5% off
    errors.notice("2026-01-09 12:00", "150")
    errors.inspected("2026-01-12 12:00", works=True)
    errors.notice("2026-01-12 13:00", "101")
    errors.accepted("2026-01-13 12:00")
    assert errors.at("2026-01-13 12:00").record().inspection_cost == "user"  # by (b)(i); and the notice's due is the first's
    assert errors.at("2026-01-09 12:00").record().due == local("2026-01-15 05:00")
    errors.facts.pop()
    assert errors.at("2026-01-13 12:00").record().inspection_cost is None  # not less than 10%: it waits for the outcome


# --- 4.8.3(a): three Business Days for the inspection -----------------------------------------------------------------------

INSPECTION_DUE = [
    ("2026-01-09 10:00", "2026-01-15 05:00"),  # a Friday: Monday, Tuesday, and Wednesday to its end
    ("2026-01-12 10:00", "2026-01-16 05:00"),
    ("2026-01-13 04:59", "2026-01-16 05:00"),  # still Monday's Gas Day
    ("2026-01-13 05:00", "2026-01-17 05:00"),
    ("2026-01-10 10:00", "2026-01-15 05:00"),  # a Saturday
    ("2025-12-24 10:00", "2026-01-01 05:00"),  # not the 25th and 26th: 29, 30, 31 December
    ("2025-12-31 10:00", "2026-01-07 05:00"),  # 2, 5, 6 January
    ("2026-04-02 10:00", "2026-04-10 05:00"),  # Easter: 7, 8, 9 April
    ("2026-04-02 04:59", "2026-04-09 05:00"),  # still Wednesday's Gas Day: 2, 7, 8 April
    ("2026-03-27 10:00", "2026-04-02 05:00"),  # summer time begins on the 29th
    ("2026-10-23 10:00", "2026-10-29 05:00"),  # and ends on the 25th
    ("2026-04-29 10:00", "2026-05-06 05:00"),  # 30 April, 1 and 5 May
]


@pytest.mark.parametrize(("received", "due"), INSPECTION_DUE)
@pytest.mark.clause("4.8.3(a)")
def test_4_8_3_a_the_inspection_is_due_at_the_end_of_the_third_business_day(received: str, due: str) -> None:
    day = (local(received) - timedelta(days=2)).date().isoformat()
    errors = Errors()
    errors.notice(received, day=day)
    before, then = errors.at(local(due) - MICROSECOND), errors.at(due)
    assert (before.record(day).state, before.record(day).due) == ("notice", local(due))
    assert (then.record(day).state, then.record(day).due) == ("inspection_overdue", local(due))
    assert before.next_due == local(due)
    assert then.next_due in (None, start(day, 6))


@pytest.mark.clause("4.8.3(a)")
def test_4_8_3_a_a_bank_holiday_that_the_settings_add() -> None:
    errors = noticed(rules=Rules(bank_holidays_added=(date(2026, 1, 12),)))
    assert errors.at(FRIDAY).record().due == local("2026-01-16 05:00")


@pytest.mark.clause("4.8.3(a)")
def test_4_8_3_a_an_inspection_at_the_last_instant_is_in_time_and_one_after_it_still_counts() -> None:
    for received in (local("2026-01-15 05:00"), local("2026-01-19 12:00")):
        errors = noticed()
        errors.inspected(received, works=True)
        assert errors.at(received).state() == "inspected"


# --- 4.8.3(b), (d): the statement, and five Business Days to reject it ------------------------------------------------------

REJECTION_DUE = [
    ("2026-01-12 12:00", "2026-01-20 05:00"),  # Tuesday 13 to Monday 19
    ("2026-01-09 12:00", "2026-01-17 05:00"),
    ("2025-12-23 12:00", "2026-01-03 05:00"),  # 24, 29, 30, 31 December, 2 January
    ("2026-03-31 12:00", "2026-04-10 05:00"),  # 1, 2, 7, 8, 9 April
    ("2026-10-22 12:00", "2026-10-30 05:00"),
    ("2026-05-22 12:00", "2026-06-02 05:00"),  # 26, 27, 28, 29 May, 1 June
]


@pytest.mark.parametrize(("stated", "last"), REJECTION_DUE)
@pytest.mark.clause("4.8.3(d)")
def test_4_8_3_d_the_statement_is_final_after_five_business_days(stated: str, last: str) -> None:
    day = (local(stated) - timedelta(days=2)).date().isoformat()
    errors = Errors()
    errors.notice(local(stated) - timedelta(hours=2), day=day)
    errors.inspected(stated, works=False, estimate="115", day=day)
    waiting, done = errors.at(local(last) - MICROSECOND).record(day), errors.at(last).record(day)
    assert (waiting.state, waiting.due, waiting.volume_m3) == ("inspected", local(last), None)
    assert (done.state, done.due, str(done.volume_m3)) == ("final", None, "115.000")
    errors.rejected(local(last), day=day)
    assert errors.at(last).record(day).state == "rejected"
    errors.facts.pop()
    errors.rejected(local(last) + MICROSECOND, day=day)
    assert errors.at(local(last) + MICROSECOND).record(day).state == "final"


@pytest.mark.clause("4.8.3(b)(i)")
def test_4_8_3_b_equipment_that_works_leaves_the_readings_volume() -> None:
    errors = noticed()
    errors.inspected("2026-01-12 12:00", works=True, estimate="115")  # an estimate is given only where it does not work
    found = errors.at("2026-01-20 05:00")
    assert (found.state(), found.volume(), found.revised(), found.deemed()) == ("final", "100.000", None, None)


@pytest.mark.clause("4.8.3(b)(ii)")
def test_4_8_3_b_the_latest_statement_counts_until_the_user_answers() -> None:
    errors = noticed()
    errors.inspected("2026-01-12 12:00", works=True)
    errors.inspected("2026-01-13 12:00", works=False, estimate="115")
    assert errors.at("2026-01-13 12:00").record().due == local("2026-01-21 05:00")
    errors.accepted("2026-01-13 13:00")
    errors.inspected("2026-01-13 14:00", works=False, estimate="130")
    assert errors.at("2026-01-13 15:00").volume() == "115.000"


@pytest.mark.clause("4.8.3(b)(ii)")
def test_4_8_3_b_a_statement_without_its_estimate_leaves_nothing_to_accept_or_reject() -> None:
    errors = noticed()
    errors.inspected("2026-01-12 12:00", works=False)
    errors.accepted("2026-01-12 13:00")
    errors.rejected("2026-01-12 14:00")
    found = errors.at("2026-03-01 12:00").record()
    assert (found.state, found.due, found.volume_m3, found.inspection_cost) == ("inspected", None, None, None)
    errors.inspected("2026-03-02 12:00", works=False, estimate="115")
    assert errors.at("2026-03-02 12:00").record().due == local("2026-03-10 05:00")


def test_4_8_3_b_an_inspection_of_another_kind_is_no_statement_about_a_later_notice() -> None:
    errors = Errors()
    errors.inspected("2026-01-08 12:00", works=True)  # maintenance
    errors.notice(FRIDAY)
    assert errors.at(FRIDAY).state() == "notice"


def test_4_8_3_answers_before_the_statement_have_no_effect() -> None:
    errors = noticed()
    errors.accepted("2026-01-12 10:00")
    errors.rejected("2026-01-12 11:00")
    errors.inspected("2026-01-12 12:00", works=False, estimate="115")
    assert errors.at("2026-01-13 12:00").state() == "inspected"


def test_what_is_received_at_one_instant_counts_in_the_order_of_the_procedure() -> None:
    errors = Errors()
    errors.expert(FRIDAY, works=False, volume="118")
    errors.rejected(FRIDAY)
    errors.inspected(FRIDAY, works=True)
    errors.notice(FRIDAY)
    assert (errors.at(FRIDAY).state(), errors.at(FRIDAY).volume()) == ("expert", "118.000")


# --- 4.8.4: where it is not known when the fault began ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last_inspected", "volume"),
    [
        ("2026-01-04 11:00", "100.000"),  # half-way to the 14th, 11:00, is the 9th: on the 8th the equipment worked
        ("2026-01-02 11:00", None),  # the 8th itself: an estimate is needed, and none is given
        ("2026-01-03 05:00", None),
        ("2025-11-01 11:00", None),
        (None, None),  # it was never inspected
    ],
)
def test_4_8_4_the_fault_began_half_way_between_the_inspections(last_inspected: str | None, volume: str | None) -> None:
    errors = noticed()
    if last_inspected:
        errors.inspected(last_inspected, works=True, day="2026-01-01", at=last_inspected)
    errors.inspected("2026-01-14 12:00", works=False)
    errors.accepted("2026-01-14 13:00")
    found = errors.at("2026-01-15 12:00")
    assert (found.volume(), found.revised()) == (volume, None)


def test_4_8_4_a_fault_that_is_known_to_have_begun_later() -> None:
    errors = noticed()
    errors.fault("2026-01-12 11:30", since="2026-01-09 05:00")
    errors.inspected("2026-01-12 12:00", works=False)
    assert errors.at("2026-01-20 05:00").volume() == "100.000"
    errors.fault("2026-01-12 11:40", since="2026-01-08 05:00")
    assert errors.at("2026-01-20 05:00").state() == "inspected"


def test_4_8_4_the_last_inspection_counts() -> None:
    errors = noticed()
    for at in ("2025-11-01 11:00", "2026-01-04 11:00", "2025-12-01 11:00"):
        errors.inspected(at, works=True, day="2026-01-01", at=at)
    errors.inspected("2026-01-14 12:00", works=False)
    errors.accepted("2026-01-14 13:00")
    assert errors.at("2026-01-15 12:00").volume() == "100.000"


def test_4_8_4_a_fault_of_what_transmits_the_index_says_nothing() -> None:
    errors = noticed()
    errors.fault("2026-01-12 11:30", since="2026-01-09 05:00", part="comms")
    errors.inspected("2026-01-12 12:00", works=False)
    assert errors.at("2026-01-20 05:00").state() == "inspected"


# --- shared Supply Meter Points ---------------------------------------------------------------------------------------------


def test_4_8_3_each_sharing_user_has_its_own_notice_and_the_inspection_concerns_the_day() -> None:
    errors = noticed()
    errors.inspected("2026-01-12 12:00", works=False, estimate="115")
    errors.notice("2026-01-14 12:00", "140", user="V")
    errors.rejected("2026-01-16 12:00", user="V")
    found = errors.at("2026-01-20 05:00")
    assert (found.state(), found.state(user="V")) == ("final", "rejected")
    assert errors.at("2026-01-15 12:00").record(user="V").due == local("2026-01-22 05:00")  # from V's own notice on
    errors.expert("2026-02-02 12:00", works=False, volume="116")
    found = errors.at("2026-02-02 12:00")
    assert (found.volume(), found.volume(user="V")) == ("115.000", "116.000")
    assert (found.record(user="V").inspection_cost, found.record().inspection_cost) == ("user", "transporter")


def test_4_8_6_an_expert_who_was_heard_for_one_user_was_heard_of_the_day() -> None:
    errors = rejected(True, None)
    errors.notice("2026-01-13 12:00", "130", user="V")
    errors.expert("2026-01-14 12:00", works=False, volume="118")
    errors.rejected("2026-01-15 12:00", user="V")
    assert errors.at("2026-01-15 12:00").volume(user="V") == "118.000"
