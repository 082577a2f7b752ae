"""What a ledger amounts to: sums, shares, kinds, against figures counted by hand from the ledgers' table of troubles."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from dailyread.report.summary import Kind, Share, is_due, latest_instant, summarise
from tests.dailyread.ledgers import AS_OF, CALENDAR, DAYS, FIRST, SITES, only, records

SUMMARY = summarise(records(), AS_OF)


def on(n: int) -> date:
    return FIRST + timedelta(days=n)


def test_grid_is_every_site_and_day() -> None:
    assert SUMMARY.meter_points == SITES
    assert SUMMARY.gas_days == tuple(on(n) for n in range(DAYS))
    assert len(SUMMARY.days) == 480


def test_days_of_each_status_are_counted() -> None:
    assert {status: total.days for status, total in SUMMARY.sums.items()} == {
        "actual": 480 - 7 - 13 - 17,
        "assumed": 13,
        "deemed": 7,
        "provisional": 6 + 11,
    }
    assert SUMMARY.total.days == 480
    assert SUMMARY.determined.days == SUMMARY.reconciled.days == 7
    assert len(SUMMARY.substituted) == 20
    assert SUMMARY.undetermined == 13


def test_unknown_volumes_are_counted_and_not_taken_as_zero() -> None:
    deemed = SUMMARY.sums["deemed"]
    known = [d.volume_m3 for d in SUMMARY.days.values() if d.status == "deemed" and d.volume_m3 is not None]
    assert (deemed.days, deemed.volumes_unknown, deemed.volume_m3) == (7, 3, sum(known))
    assert deemed.unknown == "3 volumes, 3 quantities"
    assert SUMMARY.reconciled.unknown == "1 quantity"


def test_closed_out_is_determined_and_reconciled_together() -> None:
    closed_out = sum((d.volume_m3 for d in SUMMARY.substituted if d.determined_status and d.volume_m3), Decimal(0))
    assert closed_out == SUMMARY.determined.volume_m3 + SUMMARY.reconciled.volume_m3


def test_kinds() -> None:
    places = (("SMP-11", 0), ("SMP-04", 20), ("SMP-06", 10), ("SMP-01", 0), ("SMP-02", 12), ("SMP-03", 14), ("SMP-06", 11))
    kinds = [SUMMARY.kind(site, on(n)) for site, n in (*places, ("SMP-08", 36))]
    assert kinds == list(Kind)
    assert len({kind.glyph for kind in Kind}) == len(Kind)
    assert SUMMARY.kind("SMP-01", on(DAYS)) is None


def test_actual_day_is_not_late_before_its_11() -> None:
    early = only("SMP-11", 3, by_11=False)
    eleven = datetime(2025, 9, 30, 10, 0, tzinfo=UTC)  # 11:00 in summer time
    for as_of, kind in ((eleven - timedelta(seconds=1), Kind.BY_11), (eleven, Kind.LATE)):
        assert summarise([early], as_of).kind("SMP-11", early.gas_day) is kind


def test_day_counts_once_its_11_has_passed() -> None:
    assert is_due(CALENDAR, on(38), AS_OF)
    assert not is_due(CALENDAR, on(39), AS_OF)
    assert SUMMARY.share_of_day[on(39)] == Share(0, 0)


def test_equipment_of_two_sites_counts_once_and_only_when_both_are_valid() -> None:
    shared = [only("SMP-11", 5), only("SMP-12", 5)]
    assert shared[0].equipment == shared[1].equipment
    assert summarise(shared, AS_OF).share == Share(1, 1)
    one_late = [shared[0], only("SMP-12", 5, by_11=False)]
    summary = summarise(one_late, AS_OF)
    assert summary.share == Share(1, 0)
    assert summary.share_of_point == {"SMP-11": Share(1, 1), "SMP-12": Share(1, 0)}


def test_share_in_total_and_by_day() -> None:
    late_or_worse = 7 + 1 + 4 + 4 + 1 + 2 + (5 + 5) + 1 + 2
    assert SUMMARY.share == Share(11 * 39, 11 * 39 - late_or_worse)
    assert SUMMARY.share_of_day[on(7)] == Share(11, 11)
    assert SUMMARY.share_of_day[on(37)] == Share(11, 9)


def test_standard_is_97_and_a_half_per_cent_exactly() -> None:
    assert Share(40, 39).met
    assert not Share(10_000, 9_749).met
    assert Share(10_000, 9_749).percent == "97.4%"
    assert Share(0, 0).met
    assert Share(0, 0).percent == "–"


def test_rules_count_days_and_readings() -> None:
    counts = {c.rule: (c.clause, c.days_failed, c.rejected) for c in SUMMARY.rules}
    assert counts == {
        "excess_flow": ("M1.5", 1, 8),
        "tolerance_1_percent": ("M4.8.1(d)", 2, 2),
        "boundary_mismatch": ("M4.2.3(c)", 1, 1),
        "malformed": ("M1.4.3", 0, 1),
        "unusual_volume": ("", 1, 0),
    }
    assert SUMMARY.rules[0].rule == "excess_flow"


def test_last_record_of_a_key_counts() -> None:
    first, second = only("SMP-11", 3), only("SMP-11", 3, volume_m3=Decimal("1.234"))
    assert summarise([first, second], AS_OF).total.volume_m3 == Decimal("1.234")


def test_25_hour_day_is_the_one_that_ends_on_the_morning_after_the_change() -> None:
    assert SUMMARY.clock_changes() == {date(2025, 10, 25): 25}


def test_earliest_instant_the_ledger_can_be_of() -> None:
    assert latest_instant([]) is None
    assert latest_instant([only("SMP-11", 39)]) == datetime(2025, 11, 4, 5, 0, tzinfo=UTC)
    received = datetime(2025, 11, 4, 11, 47, tzinfo=UTC)  # the latest instant that any record names
    assert latest_instant(records()) == received


def test_empty_ledger() -> None:
    empty = summarise([], AS_OF)
    assert empty.gas_days == ()
    assert empty.total.days == 0
    assert empty.share.met
