"""By-pass: what went past the meter is added to one Day, as estimated, and no Day assumes it (2.4.4(c)).

From 8 January the Days are 13, 11, 12, 10, 7, 6, 6, 13 and 11 m³ by the meter; the by-pass is used on the 8th.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pytest

from tests.metering.domain import Site, a_week_read, later, start

FIRST, DAY, NEXT = "2026-01-01", "2026-01-08", "2026-01-09"
BOUNDARIES = [620, 750, 860, 980, 1080, 1150, 1210, 1270, 1400, 1510]
MEASURED = ["13.000", "11.000", "12.000", "10.000", "7.000", "6.000", "6.000", "13.000", "11.000"]
USED = "2026-01-08 10:00"
TOLD = "2026-01-08 13:00"


def a_site(days: int = 9) -> Site:
    site = a_week_read()
    site.days(DAY, BOUNDARIES[: days + 1])
    return site


def with_5_5(measured: list[str], n: int) -> list[str]:
    """The measured volumes, the n-th with 5.5 m³ more."""
    return [*measured[:n], str(Decimal(measured[n]) + Decimal("5.500")), *measured[n + 1 :]]


# --- which Day ----------------------------------------------------------------------------------------------------------------


def test_2_4_4c_the_estimate_is_added_to_the_days_metered_volume() -> None:
    site = a_site()
    site.bypass(USED, "2026-01-08 12:00", "5.5", known=TOLD)
    view = site.ledger()
    assert view.volumes(DAY, 9) == ["18.500", *MEASURED[1:]]
    assert str(view.day(DAY).quantity_kwh) == "185.000"
    assert (view.day(DAY).status, view.day(DAY).end_index, view.day(DAY).determined_m3) == ("actual", 750, None)


def test_2_4_4c_a_large_estimate_makes_no_unusual_volume() -> None:
    """The Annual Quantity means 1,000 kWh a Day; on readings the Day takes 130 kWh, with the by-pass 6,130."""
    site = a_site()
    site.bypass(USED, "2026-01-08 12:00", "600", known=TOLD)
    found = site.day(DAY)
    assert (str(found.quantity_kwh), "unusual_volume" in found.ran, found.failed) == ("6130.000", True, ())


@pytest.mark.parametrize(
    ("until", "n"),
    [("2026-01-08 12:00", 0), ("2026-01-09 05:00", 0), ("2026-01-09 05:00:01", 1), ("2026-01-10 12:00", 2)],
)
def test_2_4_4c_to_the_first_day_that_ends_when_the_use_does_or_after(until: str, n: int) -> None:
    site = a_site()
    site.bypass(USED, until, "5.5", known=TOLD)
    assert site.ledger().volumes(DAY, 9) == with_5_5(MEASURED, n)


@pytest.mark.parametrize(
    ("known", "n"),
    [
        (start("2026-01-14"), 0),  # at the close-out of the 8th, that instant included
        (start("2026-01-14", 0, 0.000001), 1),
        ("2026-01-20 12:00", 7),  # the 14th was closed out at 05:00
    ],
)
def test_2_4_4c_of_those_the_first_that_is_closed_out_after_its_receipt(known: str | datetime, n: int) -> None:
    site = a_site()
    site.bypass(USED, "2026-01-08 12:00", "5.5", known=known)
    assert site.ledger().volumes(DAY, 9) == with_5_5(MEASURED, n)


def test_2_4_4c_of_days_closed_out_at_one_instant_the_earliest() -> None:
    """Known since 20 January, so that all Days up to then are closed out on the 26th."""
    site = Site(DAY, known="2026-01-20 12:00", index=620)
    site.days(DAY, BOUNDARIES)
    site.bypass(USED, "2026-01-09 12:00", "5.5", known="2026-01-21 12:00")
    assert site.ledger().volumes(DAY, 9) == with_5_5(MEASURED, 1)


def test_2_4_4c_failed_days_are_passed_over() -> None:
    """The meter's next reads are on the 11th: (1000 - 620) ticks for 8 to 10 January as 10 : 11 : 12 of 33, exactly 11515.15,
    12666.67 and 13818.18 litres, and 10 m³ on the 11th, with 4.25 by estimate."""
    site = a_week_read()
    site.bypass(USED, "2026-01-10 12:00", "4.25", known="2026-01-10 13:00")
    site.read("2026-01-11", [1000, 1100])
    view = site.ledger()
    assert view.volumes(DAY, 4) == ["10.000", "11.000", "12.000", "14.250"]
    assert view.determined(DAY, 4) == ["11.515", "12.667", "13.818", None]
    assert view.final(DAY, 4) == "52.250"


def test_2_4_4c_deemed_days_are_passed_over() -> None:
    site = Site(FIRST)
    site.bypass("2026-01-02 10:00", "2026-01-02 12:00", "4.25", known="2026-01-02 13:00")
    site.read("2026-01-04", [400, 500])
    view = site.ledger()
    assert view.statuses(FIRST, 4) == ["deemed"] * 3 + ["actual"]
    assert view.volumes(FIRST, 4) == ["100.000"] * 3 + ["14.250"]


def test_2_4_4c_while_no_day_is_actual_it_waits() -> None:
    site = a_week_read()
    site.bypass(USED, "2026-01-08 12:00", "4.25", known=TOLD)
    view = site.ledger("2026-01-25 12:00")
    assert view.volumes(DAY, 7) == ["10.000", "11.000", "12.000", "10.000", "7.000", "6.000", "6.000"]
    site.read("2026-01-25", [3000, 3100])
    assert site.ledger().volumes("2026-01-25", 1) == ["14.250"]


def test_2_4_4c_not_to_a_failed_day_that_is_restored() -> None:
    site = a_week_read()
    site.bypass(USED, "2026-01-08 12:00", "4.25", known=TOLD)
    site.read(DAY, [620, 750], received="2026-01-20 12:00")
    view = site.ledger()
    assert (view.volumes(DAY, 1), view.determined(DAY, 1)) == (["10.000"], ["13.000"])


# --- how much -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimate", "volume"),
    [("0", "13.000"), ("0.0004", "13.000"), ("0.0005", "13.001"), ("1.2345", "14.235"), ("1234567.891", "1234580.891")],
)
def test_2_4_4c_the_estimate_counts_in_whole_litres_half_up(estimate: str, volume: str) -> None:
    site = a_site()
    site.bypass(USED, "2026-01-08 12:00", estimate, known=TOLD)
    assert site.ledger().volumes(DAY, 2) == [volume, "11.000"]


def test_2_4_4c_two_uses_on_one_day_and_one_on_another() -> None:
    site = a_site()
    site.bypass(USED, "2026-01-08 12:00", "5.5", known=TOLD)
    site.bypass("2026-01-08 18:00", "2026-01-08 19:00", "2.25", known="2026-01-08 20:00")
    site.bypass("2026-01-09 18:00", "2026-01-09 19:00", "0.125", known="2026-01-09 20:00")
    assert site.ledger().volumes(DAY, 3) == ["20.750", "11.125", "12.000"]


def test_2_4_4c_of_one_use_the_estimate_received_last_counts() -> None:
    site = a_site()
    site.bypass(USED, "2026-01-08 12:00", "5.5", known=TOLD)
    site.bypass(USED, "2026-01-08 12:00", "7", known="2026-01-10 12:00")
    assert site.ledger().volumes(DAY, 9) == ["20.000", *MEASURED[1:]]


def test_2_4_4c_with_the_end_that_was_told_last() -> None:
    site = a_site()
    site.bypass(USED, "2026-01-08 12:00", "5", known=TOLD)
    site.bypass(USED, "2026-01-09 12:00", "5.5", known="2026-01-10 12:00")
    assert site.ledger().volumes(DAY, 9) == with_5_5(MEASURED, 1)


def test_2_4_4c_what_was_added_to_a_closed_out_day_is_neither_corrected_nor_added_again() -> None:
    site = a_site()
    site.bypass(USED, "2026-01-08 12:00", "5.5", known=TOLD)
    site.bypass(USED, "2026-01-08 12:00", "7", known="2026-01-14 12:00")
    site.bypass(USED, "2026-01-15 12:00", "8", known="2026-01-14 13:00")
    view = site.ledger()
    assert view.volumes(DAY, 9) == ["18.500", *MEASURED[1:]]
    assert view.determined(DAY, 9) == [None] * 9


# --- what does not rest on it -------------------------------------------------------------------------------------------------


def test_4_4_2_the_week_after_assumes_what_the_meter_measured() -> None:
    site = a_site(7)
    site.bypass(USED, "2026-01-08 12:00", "5.5", known=TOLD)
    view = site.ledger("2026-02-01 12:00")
    assert view.volumes(DAY, 1) == ["18.500"]
    assert [view.day(later(DAY, 7 * n)).status for n in (1, 2)] == ["assumed"] * 2
    assert [str(view.day(later(DAY, 7 * n)).volume_m3) for n in (1, 2)] == ["13.000"] * 2


def test_4_4_2_nor_does_the_provisional_value() -> None:
    site = a_site(7)
    site.bypass(USED, "2026-01-08 12:00", "5.5", known=TOLD)
    found = site.day("2026-01-15", "2026-01-15 12:00")
    assert (found.status, str(found.volume_m3)) == ("provisional", "13.000")


def test_2_4_4c_an_estimate_is_no_reading_and_the_days_validity_is_as_without() -> None:
    site, without = a_site(), a_site()
    site.bypass(USED, "2026-01-08 12:00", "5.5", known=TOLD)
    found, plain = site.day(DAY), without.day(DAY)
    assert (found.valid_at, found.by_11, found.failed, found.ran) == (plain.valid_at, plain.by_11, plain.failed, plain.ran)


# --- with exchanges and withdrawals -------------------------------------------------------------------------------------------


def test_2_4_4c_gas_by_the_bypass_while_the_meter_is_exchanged() -> None:
    """6 m³ by the old meter, 3 by the by-pass, 20 by the new one."""
    site = a_week_read()
    site.remove("2026-01-08 14:00", 680)
    site.fit("2026-01-08 16:00", 5)
    site.bypass("2026-01-08 14:00", "2026-01-08 16:00", "3", known="2026-01-08 17:00")
    site.index(start(NEXT), 25, DAY, received="2026-01-09 06:00", meter="N")
    found = site.day(DAY)
    assert (found.status, str(found.volume_m3)) == ("actual", "29.000")


def withdrawn() -> Site:
    """8 and 9 January are actual at 13 and 11 m³, the 8th with 5.5 m³ by-passed; then what was read on the 8th is withdrawn."""
    site = a_week_read()
    site.read(DAY, [620, 750])
    site.read("2026-01-10", [860, 980])
    site.bypass(USED, "2026-01-08 12:00", "5.5", known=TOLD)
    site.withdraw(DAY, received="2026-01-20 12:00")
    return site


def test_4_4_5b_the_estimate_stays_with_its_day_and_is_no_weight() -> None:
    """24 m³ as 13 : 11, and 5.5 beside."""
    view = withdrawn().ledger()
    assert view.volumes(DAY, 2) == ["18.500", "11.000"]
    assert view.determined(DAY, 2) == ["18.500", "11.000"]
    assert view.reconciled(DAY, 2) == ["0.000", "0.000"]


def test_4_4_5a_it_is_part_of_what_is_restored() -> None:
    site = withdrawn()
    site.index(start(NEXT), 740, DAY, received="2026-01-22 12:00")
    view = site.ledger()
    assert view.how(DAY, 2) == ["restored"] * 2
    assert view.determined(DAY, 2) == ["17.500", "12.000"]  # 12 and 5.5; 860 - 740
    assert view.reconciled(DAY, 2) == ["1.000", "-1.000"]
