"""Indexes, volumes in whole litres, and quantities (1.4.3, 1.4.4)."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.facts import MeterFitted
from metering.volumes import Register, apportion, half_up, quantity_wh, register_of
from tests.metering.domain import Site, local

FEET = "0.028316846592"  # a cubic foot, in m³


def register(tick: str, *, digits: int = 8, factor: str | None = None, q_max: str = "1000") -> Register:
    return register_of(
        MeterFitted(
            meter_point="MP", meter="M", at=local("2026-01-01 05:00"), index=0, digits=digits, m3_per_tick=Decimal(tick),
            conversion_factor=None if factor is None else Decimal(factor), q_max_m3_per_h=Decimal(q_max),
        )
    )  # fmt: skip


VOLUMES = [  # m³ a tick, conversion factor, digits, start, end, litres: R(end × k) - R(start × k)
    ("0.1", None, 8, 1000, 1100, 10_000),
    ("0.1", None, 8, 0, 0, 0),
    ("1", "1.02264", 8, 0, 1, 1_023),  # 1022.64
    ("1", "1.02264", 8, 1, 2, 1_022),  # 2045.28 - 1022.64, each rounded first
    ("1", "1.02264", 8, 0, 100, 102_264),
    ("0.0005", None, 8, 0, 1, 1),  # 0.5 rounds up
    ("0.0005", None, 8, 1, 2, 0),
    ("0.0005", None, 8, 2, 3, 1),  # 1.5 - 1
    ("0.0005", None, 8, 0, 3, 2),
    ("0.0004", None, 8, 0, 1, 0),  # 0.4 rounds down
    (FEET, None, 8, 0, 1, 28),  # 28.316846592
    (FEET, None, 8, 1, 2, 29),  # 56.63 - 28.32
    (FEET, None, 8, 1_000, 2_000, 28_317),  # 56633.69 - 28316.85
    (FEET, "1.022640", 8, 0, 100_000, 2_895_794),  # 2895794.0199
    (FEET, "1.083217", 10, 1_234_567_890, 1_234_667_890, 3_067_329),
    ("0.01", None, 10, 9_999_999_990, 10, 200),  # a roll-over of ten digits
    ("0.1", None, 8, 99_999_990, 10, 2_000),
    ("1", "1.02264", 4, 9_999, 0, 1_023),  # 10226400 - 10225377.36
    (FEET, None, 4, 9_999, 1, 57),  # 283196.78 - 283140.15
]


@pytest.mark.parametrize(("tick", "factor", "digits", "start", "end", "litres"), VOLUMES)
@pytest.mark.clause("1.4.4(a)(ii)")
def test_1_4_4_the_volume_between_two_indexes(
    tick: str, factor: str | None, digits: int, start: int, end: int, litres: int
) -> None:
    meter = register(tick, digits=digits, factor=factor)
    assert meter.volume_l(start, end) == litres
    k = Fraction(tick) * Fraction(factor or 1) * 1000
    unwrapped = end if end >= start else end + 10**digits
    assert litres == int(unwrapped * k + Fraction(1, 2)) - int(start * k + Fraction(1, 2))


@pytest.mark.parametrize(
    ("numerator", "denominator", "rounded"),
    [(1, 2, 1), (-1, 2, -1), (3, 2, 2), (-3, 2, -2), (49, 100, 0), (-49, 100, 0), (-51, 100, -1), (0, 7, 0), (7, 7, 1)],
)
def test_a_half_rounds_away_from_0(numerator: int, denominator: int, rounded: int) -> None:
    assert half_up(numerator, denominator) == rounded


@given(
    st.lists(st.integers(0, 10_000), min_size=2, max_size=30),
    st.sampled_from(["0.1", "0.0005", "1", FEET, "2.8316846592"]),
    st.sampled_from([None, "1.02264", "1.083217"]),
)
@pytest.mark.clause("1.4.4(a)(ii)")
def test_the_days_of_a_period_add_up_to_the_period(advances: list[int], tick: str, factor: str | None) -> None:
    meter, indexes = register(tick, factor=factor), [0]
    for advance in advances:
        indexes.append(indexes[-1] + advance)
    days = [meter.volume_l(indexes[n], indexes[n + 1]) for n in range(len(advances))]
    assert sum(days) == meter.volume_l(indexes[0], indexes[-1])


@given(st.integers(5, 10), st.integers(0, 20_000), st.lists(st.integers(0, 4_000), min_size=1, max_size=9))
def test_and_across_a_roll_over_of_whole_litres(digits: int, before: int, advances: list[int]) -> None:
    meter, modulus = register("0.01", digits=digits), 10**digits
    indexes = [modulus - 1 - before % modulus]
    for advance in advances:
        indexes.append((indexes[-1] + advance) % modulus)
    days = [meter.volume_l(indexes[n], indexes[n + 1]) for n in range(len(advances))]
    assert sum(days) == sum(advances) * 10


QUANTITIES = [  # litres, MJ/m³, watt-hours
    (10_000, "39.5", 109_722),  # 109722.2
    (1, "1.8", 1),  # 0.5 of 0.001 kWh rounds up
    (1, "1.79", 0),
    (36_000, "36", 360_000),
    (1, "5.4", 2),  # 1.5
    (0, "39.5", 0),
    (123_456, "38.123456", 1_307_380),  # 1307380.4
]


@pytest.mark.parametrize(("litres", "value", "watt_hours"), QUANTITIES)
@pytest.mark.clause("4.3(b)")
def test_1_4_4b_a_quantity_is_volume_by_calorific_value(litres: int, value: str, watt_hours: int) -> None:
    assert quantity_wh(litres, Decimal(value)) == watt_hours


def test_1_4_4b_no_calorific_value_no_quantity_never_0() -> None:
    site = Site("2026-01-01", values=None)
    site.read("2026-01-01", [0, 1000])
    found = site.day("2026-01-01")
    assert (found.status, str(found.volume_m3), found.quantity_kwh) == ("actual", "100.000", None)


def test_1_4_4b_the_quantity_follows_when_the_value_comes() -> None:
    site = Site("2026-01-01", values=None)
    site.read("2026-01-01", [0, 1000])
    site.value("2026-01-01", "39.5", received="2026-01-02 13:00")
    assert site.day("2026-01-01", "2026-01-02 12:59:59").quantity_kwh is None
    assert str(site.day("2026-01-01", "2026-01-02 13:00").quantity_kwh) == "1097.222"


def test_1_4_4b_the_latest_received_value_counts_even_after_the_close_out() -> None:
    site = Site("2026-01-01", values=None)
    site.read("2026-01-01", [0, 1000])
    site.value("2026-01-01", "39.5", received="2026-01-02 13:00")
    site.value("2026-01-01", "39.6", received="2026-01-03 13:00")
    site.value("2026-01-01", "40", received="2026-01-20 13:00")
    quantities = [str(site.day("2026-01-01", f"2026-01-{day:02} 13:00").quantity_kwh) for day in (2, 3, 19, 20)]
    assert quantities == ["1097.222", "1100.000", "1100.000", "1111.111"]


def test_a_value_that_comes_again_counts_at_its_first_receipt() -> None:
    site = Site("2026-01-01", values=None)
    site.read("2026-01-01", [0, 1000])
    for value, received in [("39.5", "2026-01-02 13:00"), ("39.6", "2026-01-03 13:00"), ("39.50", "2026-01-04 13:00")]:
        site.value("2026-01-01", value, received=received)
    assert str(site.day("2026-01-01").quantity_kwh) == "1100.000"


def test_values_of_another_zone_or_day_do_not_count() -> None:
    site = Site("2026-01-01", values=None)
    site.read("2026-01-01", [0, 1000])
    site.value("2026-01-01", "39.5", received="2026-01-02 13:00", ldz="SW")
    site.value("2026-01-02", "39.5", received="2026-01-02 13:00")
    assert site.day("2026-01-01").quantity_kwh is None


def test_a_value_received_before_the_registration_counts() -> None:
    site = Site("2026-01-01", values=None, known="2025-12-20 12:00")
    site.value("2026-01-01", "39.5", received="2025-12-10 12:00")
    site.read("2026-01-01", [0, 1000])
    assert str(site.day("2026-01-01").quantity_kwh) == "1097.222"


def test_a_register_that_rolls_over_shows_its_readings_and_the_true_volume() -> None:
    site = Site("2026-01-01", digits=10, tick=FEET, factor="1.022640", index=9_999_999_900)
    site.days("2026-01-01", [9_999_999_900, 100, 400])
    view = site.ledger()
    found = view.day("2026-01-01")
    assert (found.status, found.start_index, found.end_index) == ("actual", 9_999_999_900, 100)
    assert view.volumes("2026-01-01", 2) == ["5.791", "8.687"]  # 289579402884 - 289579397093, 11583 - 2896


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=12))
def test_4_4_5b_shares_sum_to_the_whole_and_no_remainder_is_passed_over(total: int, weights: list[int]) -> None:
    shares = apportion(total, weights)
    assert sum(shares) == total
    parts = weights if any(weights) else [1] * len(weights)
    exact = [Fraction(total * part, sum(parts)) for part in parts]
    assert all(abs(share - each) < 1 for share, each in zip(shares, exact, strict=True))
    up = [n for n, (share, each) in enumerate(zip(shares, exact, strict=True)) if share > each]
    down = [n for n, (share, each) in enumerate(zip(shares, exact, strict=True)) if share < each]
    assert all((exact[a] % 1, -a) > (exact[b] % 1, -b) for a in up for b in down)


@pytest.mark.parametrize(
    ("total", "weights", "shares"),
    [
        (50_000, [10_000, 11_000, 12_000, 10_000], [11_628, 12_791, 13_953, 11_628]),
        (10, [1, 1, 1], [4, 3, 3]),
        (11, [1, 1, 1], [4, 4, 3]),
        (2, [1, 1, 1], [1, 1, 0]),
        (7, [0, 0, 0], [3, 2, 2]),
        (7, [0, 5, 0], [0, 7, 0]),
        (0, [3, 4], [0, 0]),
        (100, [1, 2], [33, 67]),
        (5, [1, 1, 2], [1, 1, 3]),  # 1.25, 1.25, 2.5: the greatest remainder
        (6, [1, 1, 2], [2, 1, 3]),  # 1.5, 1.5, 3: the earlier of two
    ],
)
def test_4_4_5b_by_largest_remainder_ties_to_the_earlier(total: int, weights: list[int], shares: list[int]) -> None:
    assert apportion(total, weights) == shares
