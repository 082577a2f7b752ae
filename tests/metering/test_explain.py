"""An explanation says what the ledger says, and how it came about: the engine's figures, and steps that lead to them."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.explain import Unexplained, explain
from metering.explanation import Explanation
from metering.facts import (
    AdjustmentAgreed,
    Alarm,
    AnyFact,
    CalorificValue,
    CheckRead,
    EstimateAccepted,
    ExpertDetermination,
    GivenUp,
    Inspection,
    MeterRemoved,
    PollFailed,
    Provided,
    ReadErrorNotice,
    Readings,
    Withdrawn,
)
from metering.gasday import to_us
from metering.ledger import AnyRecord, Day, Key, Reconciliation
from metering.replay import replay
from metering.rules import Rules
from tests.metering.domain import LONG_AFTER, Site, gas_day, later, local, start
from tests.metering.scenarios import Scenario, as_of, some_rules

BESIDE_READINGS = (
    AdjustmentAgreed,
    ExpertDetermination,
    MeterRemoved,
    ReadErrorNotice,
    Withdrawn,
)  # of these the steps may lack something; the figures do not


def explained(site: Site, day: str, at: str | datetime | None = None) -> Explanation:
    """The explanation of a Day, long after the last fact unless an instant is given; its record is that of the ledger."""
    latest = max(fact.received_at for fact in site.facts if fact.received_at is not None)
    found = explain("MP", gas_day(day), site.facts, to_us(latest + LONG_AFTER if at is None else local(at)), site.rules)
    assert found.day == site.day(day, at)
    return found


def worked_example() -> Site:
    """The Days of the rules page's example: read from 1 to 7 January, silent from 8 to 11, read again on the 12th."""
    site = Site("2025-12-01", values=50)
    site.read("2025-12-31", [900, 1000])
    site.days("2026-01-01", [1000, 1100, 1210, 1330, 1430, 1500, 1560, 1620])
    site.read("2026-01-12", [2120, 2200], gateway="gw-1", outbox="a1", sequence=12)
    return site


def causes(found: Explanation) -> list[tuple[str, list[str], list[str]]]:
    """The history: when, by which kinds of facts or deadlines, and which records changed."""
    return [
        (
            f"{moment.at:%m-%d %H:%M}",
            [str(fact.__struct_config__.tag) for fact in moment.facts]
            + [f"{each.kind} {each.gas_day:%m-%d}" for each in moment.deadlines],
            [str((change.after or change.before).__struct_config__.tag) for change in moment.changes],
        )
        for moment in found.history
    ]


def prospects(found: Explanation) -> list[str]:
    return [each.kind for each in found.prospects]


# --- the figures are the ledger's -----------------------------------------------------------------------------------------


def some_ledger(seed: int) -> tuple[random.Random, list[AnyFact], int, Rules]:
    dice = random.Random(seed)
    facts = Scenario(dice, days=dice.choice([6, 14, 24])).facts
    dice.shuffle(facts)
    return dice, facts, to_us(as_of(dice, facts)), some_rules(dice, facts)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_every_figure_is_the_ledgers(seed: int) -> None:
    """Whatever was received, in whatever order: the Day's record is that of `replay` as of the same instant, and so is what
    its history ends with; and the steps lead to the figures."""
    dice, facts, now_us, rules = some_ledger(seed)
    ledger = replay(facts, now_us, rules)
    days = [each for each in ledger.values() if isinstance(each, Day)]
    for record in dice.sample(days, min(4, len(days))):
        found = explain(record.meter_point, record.gas_day, facts, now_us, rules)
        assert found.day == record
        assert history_ends_with(found) == {key: each for key, each in ledger.items() if is_of(key, record)}
        if not any(isinstance(fact, BESIDE_READINGS) for fact in facts):
            assert all(origin.accounted for origin in found.origins)
            assert found.determination is None or found.determination.accounted


def is_of(key: Key, record: Day) -> bool:
    return key[1:3] == (record.meter_point, record.gas_day.isoformat())


def history_ends_with(found: Explanation) -> dict[Key, AnyRecord]:
    """The records at the end of the history, each change of which begins with what the one before ended with."""
    records: dict[Key, AnyRecord | None] = {}
    for moment in found.history:
        assert moment.facts or moment.deadlines
        for change in moment.changes:
            record = change.after or change.before
            assert record is not None
            assert records.get(record.key()) == change.before
            records[record.key()] = change.after
    return {key: record for key, record in records.items() if record is not None}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_what_was_known_earlier_is_what_the_history_says(seed: int) -> None:
    """As of any instant of its history, the Day's record was what the history says it became then."""
    dice, facts, now_us, rules = some_ledger(seed)
    days = [each for each in replay(facts, now_us, rules).values() if isinstance(each, Day)]
    for record in dice.sample(days, min(1, len(days))):
        found = explain(record.meter_point, record.gas_day, facts, now_us, rules)
        changes = [
            (moment.at, each.after) for moment in found.history for each in moment.changes if isinstance(each.after, Day)
        ]
        for at, after in dice.sample(changes, min(3, len(changes))):
            assert replay(facts, to_us(at), rules)[record.key()] == after


# --- step by step -----------------------------------------------------------------------------------------------------------


def test_m4_3_a_day_that_was_read_names_its_readings_and_their_arithmetic() -> None:
    site = Site(factor="1.02264", tick="1")
    site.read("2026-01-09", [300, 500], gateway="gw-1", outbox="a1", sequence=7)
    site.read("2026-01-10", [500, 600], received="2026-01-11 07:00")
    found = explained(site, "2026-01-09")
    assert (found.start.index, found.end.index) == (300, 500)
    (first,), (own, neighbour) = found.start.said_by, found.end.said_by
    assert (first.meter, first.gateway, first.outbox, first.sequence, first.source) == ("M", "gw-1", "a1", 7, "dre")
    assert (own.batch, own.piece, own.pieces, own.received_at) == (date(2026, 1, 9), 1, 1, local("2026-01-10 06:00"))
    assert (neighbour.batch, neighbour.received_at) == (date(2026, 1, 10), local("2026-01-11 07:00"))
    (origin,) = found.origins
    (advance,) = origin.advances
    assert (origin.status, origin.clause, origin.accounted) == ("actual", "4.3", True)
    # 500 × 1.02264 = 511.32, 300 × 1.02264 = 306.792
    assert (advance.end_m3, advance.start_m3, advance.volume_m3) == (Decimal("511.320"), Decimal("306.792"), Decimal("204.528"))
    assert found.quantity.mj_per_m3 == 36
    assert prospects(found) == ["fixed", "later_calorific_value"]


def test_m4_4_5_b_an_apportioned_day_shows_its_run_with_weights_and_shares() -> None:
    found = explained(worked_example(), "2026-01-09")
    assert found.determination is not None
    run = found.determination.run
    assert run is not None
    assert (found.determination.status, found.determination.clause) == ("apportioned", "4.4.5(b)")
    assert (run.first, run.last, run.volume_m3) == (date(2026, 1, 8), date(2026, 1, 11), Decimal("50.000"))
    assert [str(share.weight_m3) for share in run.shares] == ["10.000", "11.000", "12.000", "10.000"]
    assert [str(share.exact_m3) for share in run.shares] == ["11.627907", "12.790698", "13.953488", "11.627907"]
    assert [str(share.determined_m3) for share in run.shares] == ["11.628", "12.791", "13.953", "11.628"]
    assert (run.start.index, run.end.index) == (1620, 2120)
    assert [(each.gateway, each.sequence) for each in run.end.said_by] == [("gw-1", 12)]
    (reconciliation,) = found.records
    assert isinstance(reconciliation, Reconciliation)
    assert str(reconciliation.volume_m3) == "-1.791"


def test_m4_4_2_an_assumed_day_is_followed_back_to_the_day_that_was_read() -> None:
    site = Site("2025-12-01", values=90)
    site.days("2026-01-01", [0, 100, 250])
    site.tick("2026-02-03 12:00")
    found = explained(site, "2026-01-23", "2026-02-03 12:00")
    assert [(each.gas_day.isoformat(), each.status, str(each.volume_m3)) for each in found.origins] == [
        ("2026-01-23", "assumed", "15.000"),
        ("2026-01-16", "assumed", "15.000"),
        ("2026-01-09", "assumed", "15.000"),
        ("2026-01-02", "actual", "15.000"),
    ]
    assert [each.rests_on for each in found.origins][-2:] == [date(2026, 1, 2), None]
    assert [each.clause for each in found.origins][-2:] == ["4.4.2", "4.3"]
    assert found.determination is not None
    assert found.determination.status is None
    assert prospects(found) == ["run_end", "restored_with", "later_calorific_value"]


def test_m4_2_6_a_deemed_day_shows_the_annual_quantity_and_the_calorific_value_that_counted() -> None:
    site = Site(values=0)
    site.value("2026-01-02", "36", received="2026-01-20 12:00")
    site.value("2026-01-02", "40", received="2026-01-25 12:00")
    (origin,) = explained(site, "2026-01-02").origins
    assert (origin.status, origin.clause, origin.accounted) == ("deemed", "4.2.6", True)
    assert (origin.annual_quantity_kwh, str(origin.quantity_kwh), str(origin.volume_m3)) == (365000, "1000.000", "100.000")
    assert origin.calorific_value is not None
    assert origin.calorific_value.mj_per_m3 == 36  # the first after the close-out; later ones do not count


def test_m3_9_1_b_a_meter_exchange_is_two_advances() -> None:
    site = Site()
    site.read("2026-01-09", [100, 200])
    site.remove("2026-01-10 11:00", 260)
    site.fit("2026-01-10 12:00", 7)
    site.read("2026-01-10", [200], at=[start("2026-01-10")])
    site.read("2026-01-10", [20], at=[start("2026-01-11")], meter="N")
    found = explained(site, "2026-01-10")
    (origin,) = found.origins
    # (260 - 200) × 0.1 and (20 - 7) × 1
    assert [(each.meter, str(each.volume_m3)) for each in origin.advances] == [("M", "6.000"), ("N", "13.000")]
    assert (str(found.day.volume_m3), origin.accounted) == ("19.000", True)
    assert [fitted.meter for fitted in found.meters] == ["M", "N"]
    assert ("01-10 12:00", ["meter_removed"], []) in causes(found)


def test_m2_4_4_c_a_by_pass_is_named_beside_the_advance_and_not_assumed_again() -> None:
    site = Site("2025-12-01", values=90)
    site.days("2026-01-01", [0, 100, 200])
    site.bypass("2026-01-02 09:00", "2026-01-02 12:00", "12.5", known="2026-01-02 15:00")
    site.tick("2026-01-16 12:00")
    week_later, read = explained(site, "2026-01-09").origins
    assert [str(each.estimated_m3) for each in read.bypass] == ["12.5"]
    assert (str(read.volume_m3), read.accounted) == ("22.500", True)
    assert (str(week_later.volume_m3), week_later.accounted) == ("10.000", True)


def test_m4_4_5_readings_withdrawn_after_the_close_out_still_explain_what_was_closed_out() -> None:
    site = Site()
    site.days("2026-01-09", [100, 200, 310, 400])
    site.withdraw("2026-01-10", received="2026-01-25 12:00")
    site.withdraw("2026-01-09", received="2026-01-25 12:00")
    found = explained(site, "2026-01-09")
    assert [piece.withdrawn_at for piece in found.pieces] == [local("2026-01-25 12:00")]
    assert [str(each.volume_m3) for each in found.origins[0].advances] == ["10.000"]
    assert found.origins[0].accounted
    assert found.determination is not None


def test_what_was_rejected_is_told_with_rule_clause_and_values() -> None:
    site = Site()
    site.read("2026-01-09", [100, 200])
    site.read("2026-01-10", [203, 300])
    found = explained(site, "2026-01-10")
    (rejected,) = found.rejected
    assert (rejected.rule, rejected.clause, rejected.index) == ("boundary_mismatch", "4.2.3(c)", 203)
    (rule,) = [each for each in found.rules if each.failed]
    assert (rule.rule, rule.action, rule.found) == ("boundary_mismatch", "reject", ("1 rejected",))
    assert rejected in explained(site, "2026-01-09").rejected  # it is about that Day's end, too


# --- who knew what when ---------------------------------------------------------------------------------------------------


def test_the_history_names_the_fact_or_the_deadline_of_every_change() -> None:
    found = explained(worked_example(), "2026-01-09")
    assert causes(found)[1:] == [
        ("01-08 06:00", ["readings"], []),
        ("01-09 05:00", ["begins 01-09"], ["day"]),
        ("01-13 06:00", ["readings"], []),
        ("01-15 05:00", ["close_out 01-09"], ["day"]),
        ("01-17 05:00", ["close_out 01-11"], ["day", "reconciliation"]),
    ]


def test_what_changed_no_day_is_in_the_history_all_the_same() -> None:
    """Failed polls, alarms, dropped readings and publications are shown, for the Day that they concern."""
    site, day = worked_example(), date(2026, 1, 9)
    point, at = {"meter_point": "MP"}, local("2026-01-10 05:10")
    site.facts += [
        PollFailed(**point, meter="M", gas_day=day, reason="silent", attempts=4, received_at=at),
        Alarm(**point, meter="M", at=local("2026-01-09 12:00"), kind="tamper", received_at=at + timedelta(minutes=1)),
        GivenUp(**point, meter="M", gas_day=day, readings=25, reason="full", received_at=at + timedelta(minutes=2)),
        Provided(**point, user="U", gas_day=day, version=1, received_at=at + timedelta(minutes=3)),
    ]
    found = explained(site, "2026-01-09")
    kinds = [kind for when, kinds, _ in causes(found) for kind in kinds if when.startswith("01-10")]
    assert kinds == ["poll_failed", "alarm", "given_up", "provided"]
    assert [each.user for each in found.provided] == ["U"]
    of_the_run = explained(site, "2026-01-10").run_facts
    assert [type(each) for each in of_the_run if not isinstance(each, (Readings, CalorificValue))] == [
        PollFailed, Alarm, GivenUp, Provided,
    ]  # fmt: skip


def test_as_of_an_earlier_instant_nothing_later_is_known() -> None:
    found = explained(worked_example(), "2026-01-09", "2026-01-12 12:00")
    assert found.day.status == "provisional"
    assert prospects(found) == ["close_out", "valid_with", "later_calorific_value"]
    assert all(fact.received_at is not None and fact.received_at <= local("2026-01-12 12:00") for fact in found.facts)


# --- what would change it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("day", ["2026-01-08", "2026-01-09", "2026-01-11"])
def test_the_readings_that_would_restore_a_day_do(day: str) -> None:
    """The engine agrees: with standing readings at the instants named, the Day is restored (M4.4.5(a))."""
    site = worked_example()
    found = explained(site, day)
    (prospect,) = [each for each in found.prospects if each.kind == "restored_with"]
    index = {start("2026-01-09"): 1700, start("2026-01-10"): 1800, start("2026-01-11"): 1950}
    for at in prospect.instants:
        site.read(later("2026-01-08", (at - start("2026-01-09")).days), [index[at]], at=[at], received="2026-02-20 12:00")
    assert explained(site, day).day.determined_status == "restored"
    assert prospects(explained(site, day))[0] == "fixed"


def test_the_reading_that_would_make_a_day_valid_does() -> None:
    site = worked_example()
    found = explained(site, "2026-01-08", "2026-01-10 12:00")
    (prospect,) = [each for each in found.prospects if each.kind == "valid_with"]
    assert prospect.instants == (start("2026-01-09"),)
    site.read("2026-01-08", [1700], at=prospect.instants, received="2026-01-10 13:00")
    assert explained(site, "2026-01-08", "2026-01-10 13:00").day.valid


def test_m1_4_4_a_calorific_value_that_is_missing_is_named_with_its_ldz() -> None:
    site = Site(values=0)
    site.read("2026-01-09", [100, 200])
    found = explained(site, "2026-01-09")
    (missing,) = [each for each in found.prospects if each.kind == "calorific_value"]
    assert (missing.ldz, missing.gas_day, missing.clause) == ("EA", date(2026, 1, 9), "1.4.4(b)")
    assert found.day.quantity_kwh is None


def test_m4_4_5_b_readings_from_when_the_index_was_not_captured_do_not_restore() -> None:
    site = worked_example()
    site.fault("2026-01-08 12:00", "2026-01-10 12:00", known="2026-01-12 12:00")
    assert prospects(explained(site, "2026-01-09")) == ["capture_fault", "inside_run", "later_calorific_value"]


# --- what there is not ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "day", "sentence"),
    [
        ("MQ", "2026-01-09", "nothing was received about the meter point MQ by 2026-01-20T12:00:00Z"),
        ("MP", "2025-11-30", "has the Gas Days 2025-12-01 to 2026-01-20; 2025-11-30 is none of them"),
        ("MP", "2026-01-21", "has the Gas Days 2025-12-01 to 2026-01-20; 2026-01-21 is none of them"),
        ("MP", "0001-01-01", "0001-01-01 is none of them"),
    ],
)
def test_a_point_or_day_that_is_not_there_is_said_to_be_none(point: str, day: str, sentence: str) -> None:
    with pytest.raises(Unexplained, match=sentence):
        explain(point, gas_day(day), worked_example().facts, to_us(local("2026-01-20 12:00")), Rules())


def test_a_point_that_is_not_registered_has_no_days() -> None:
    facts = [fact for fact in worked_example().facts if isinstance(fact, Readings)]
    with pytest.raises(Unexplained, match="MP is not registered"):
        explain("MP", gas_day("2026-01-09"), facts, to_us(local("2026-01-20 12:00")), Rules())


def noticed_and_accepted(accepted: str) -> Site:
    """10 m³ were read on 9 January 2026; the transporter's estimate is 15 m³, which the User accepts at an instant."""
    site = Site("2025-12-01", values=60)
    site.days("2026-01-08", [0, 100, 200, 300])
    of_the_day = {"meter_point": "MP", "gas_day": gas_day("2026-01-09")}
    site.facts += [
        ReadErrorNotice(received_at=local("2026-01-11 10:00"), user="U", volume_estimate_m3=Decimal(20), **of_the_day),
        Inspection(
            received_at=local("2026-01-12 10:00"), at=local("2026-01-12 09:00"), equipment_works=False, reed_switch_works=True,
            meter_works=True, volume_estimate_m3=Decimal(15), **of_the_day,
        ),
        EstimateAccepted(received_at=local(accepted), user="U", **of_the_day),
    ]  # fmt: skip
    return site


def test_m4_8_8_an_estimate_accepted_by_the_close_out_is_told_to_come_and_then_to_have_come() -> None:
    site = noticed_and_accepted("2026-01-13 10:00")
    before = explained(site, "2026-01-09", "2026-01-14 12:00")
    assert (str(before.day.volume_m3), before.origins[0].clause) == ("10.000", "4.3")
    assert [(each.clause, str(each.volume_m3)) for each in before.prospects if each.kind == "substitution"] == [
        ("4.8.8(a)", "15.000")
    ]
    after = explained(site, "2026-01-09")
    (origin,) = after.origins
    assert (str(origin.volume_m3), origin.clause, str(origin.substituted_m3)) == ("15.000", "4.8.8(a)", "15.000")
    assert [str(each.volume_m3) for each in origin.advances] == ["10.000"]
    assert origin.accounted
    assert "substitution" not in {each.kind for each in after.prospects}


def test_m4_8_10_an_estimate_accepted_later_leaves_the_closed_out_volume_as_read() -> None:
    found = explained(noticed_and_accepted("2026-01-16 10:00"), "2026-01-09")
    assert (found.origins[0].clause, found.origins[0].substituted_m3, found.origins[0].accounted) == ("4.3", None, True)
    assert found.determination is not None
    assert (found.determination.clause, str(found.day.determined_m3)) == ("4.8.10", "15.000")


def test_m4_7_3_the_history_of_every_day_of_a_period_has_the_check_read_and_that_of_later_days_has_not() -> None:
    site = Site("2026-01-01", values=60)
    site.days("2026-01-01", [0, 100, 200, 300, 400])
    check = CheckRead(
        received_at=local("2026-01-04 12:00"), meter_point="MP", meter="M", at=local("2026-01-04 11:00"), index=300
    )
    site.facts.append(check)
    assert [
        any(check in moment.facts for moment in explained(site, day).history)
        for day in ("2026-01-01", "2026-01-03", "2026-01-05")
    ] == [True, True, False]
