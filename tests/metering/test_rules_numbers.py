"""Numbers with many digits, in the ledger: ten-digit indexes, hundreds of cubic feet, factors of six places (1.4.3, 1.4.4).

A cubic foot is 0.028316846592 m³; a tick of a hundred of them, with the factor 1.022640, is k = 2895.793999884288 litres.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from tests.metering.domain import Site, later, start

DAY, NEXT = "2026-01-08", "2026-01-09"
HUNDRED_FEET, FACTOR = "2.8316846592", "1.022640"
K_L = Fraction("2895.793999884288")


def litres(index: int, k_l: Fraction = K_L) -> int:
    """R of an index in litres."""
    return int(index * k_l + Fraction(1, 2))


def a_site(index: int, **more: object) -> Site:
    """A meter of ten digits in hundreds of cubic feet, fitted at the start of 8 January."""
    usual = {"digits": 10, "tick": HUNDRED_FEET, "factor": FACTOR, "q_max": "100000", "index": index}
    return Site(DAY, **usual | more)  # type: ignore[arg-type]


def test_the_tick_is_what_the_foot_makes_it() -> None:
    assert Fraction(HUNDRED_FEET) * Fraction(FACTOR) * 1000 == K_L == Fraction("28.316846592") * 100 * Fraction("1.02264")


@pytest.mark.parametrize(
    ("start_index", "end_index", "volume"),
    [
        (0, 1, "2.896"),
        (1, 2, "2.896"),  # 5792 - 2896
        (4, 5, "2.896"),  # 14479 - 11583, exactly 14478.970 and 11583.176
        (0, 250, "723.948"),  # 723948.49997...: just below the half
        (1_234_567_890, 1_234_567_990, "289.579"),
        (9_999_999_900, 150, "723.949"),  # rolled over: 28957940433212 - 28957939709263
        (9_999_999_999, 0, "2.896"),
    ],
)  # fmt: skip
def test_1_4_4_a_days_volume(start_index: int, end_index: int, volume: str) -> None:
    site = a_site(start_index)
    site.read(DAY, [start_index, end_index])
    found = site.day(DAY)
    assert (found.status, found.start_index, found.end_index, str(found.volume_m3)) == (
        "actual", start_index, end_index, volume,
    )  # fmt: skip
    unwrapped = end_index if end_index >= start_index else end_index + 10**10
    assert Decimal(volume) * 1000 == litres(unwrapped) - litres(start_index)


def test_1_4_4_the_days_add_up_to_the_period() -> None:
    boundaries = [1_234_567_890 + 7 * n * n for n in range(15)]
    site = a_site(boundaries[0])
    site.days(DAY, boundaries)
    assert Decimal(site.ledger().final(DAY, 14)) * 1000 == litres(boundaries[-1]) - litres(boundaries[0])


def test_3_9_1b_an_exchange_after_a_roll_over_each_meter_by_its_own_register() -> None:
    """M from 9 999 999 900 over 150 to its removal at 200: 28957940578002 - 28957939709263 = 868739 litres, of which 723949 on
    the first Day. N in litres, of ten digits and a convertor: 9 876 543 210 to 9 876 999 999."""
    site = a_site(9_999_999_900)
    site.read(DAY, [9_999_999_900, 150])
    site.remove("2026-01-09 14:00", 200)
    site.fit("2026-01-09 14:00", 9_876_543_210, digits=10, tick="0.001")
    site.read(NEXT, [150, None], at=[start(NEXT), start(NEXT, 1)])
    site.index(start(NEXT, 1), 9_876_999_999, NEXT, received="2026-01-10 06:00", meter="N")
    view = site.ledger()
    assert view.volumes(DAY, 2) == ["723.949", "601.579"]  # 144790 and 456789 litres


def test_4_4_5b_a_run_of_great_volumes_is_shared_to_the_litre() -> None:
    """Weights of 289 579 to 1 158 318 litres; the sum of the shares is what the index says, and each is within a litre."""
    ticks = [100, 200, 300, 400, 150, 250, 350]
    site, index = a_site(0), [0]
    for each in ticks:
        index.append(index[-1] + each)
    site.days(DAY, index)
    again = later(DAY, 12)
    end = index[-1] + 123_457
    site.read(again, [end, end + 1])
    view = site.ledger()
    weights = [litres(index[n + 1]) - litres(index[n]) for n in range(5)]
    total = litres(end) - litres(index[-1])
    shares = [int(Decimal(each or "0") * 1000) for each in view.determined(later(DAY, 7), 5)]
    assert view.how(later(DAY, 7), 5) == ["apportioned"] * 5
    assert sum(shares) == total == 357_506_040
    assert all(abs(share - Fraction(total * weight, sum(weights))) < 1 for share, weight in zip(shares, weights, strict=True))


@pytest.mark.parametrize(
    ("value", "quantity"),
    [
        ("38.123456", "7666.511"),  # 723.949 × 38.123456 / 3.6 = 7666.51051...
        ("39.5", "7943.329"),
        ("0.000001", "0.000"),
    ],
)
def test_1_4_4b_calorific_values_of_six_places(value: str, quantity: str) -> None:
    site = a_site(9_999_999_900, value=value)
    site.read(DAY, [9_999_999_900, 150])
    exact = Fraction("723.949") * Fraction(value) / Fraction("3.6")
    assert quantity == f"{int(exact * 1000 + Fraction(1, 2)) / 1000:.3f}"
    assert str(site.day(DAY).quantity_kwh) == quantity


@pytest.mark.parametrize("factor", ["1.022640", "1.083217", "0.999999", "1.000001"])
def test_1_4_4_factors_of_six_places(factor: str) -> None:
    k_l = Fraction(HUNDRED_FEET) * Fraction(factor) * 1000
    site = a_site(9_000_000_001, factor=factor)
    site.days(DAY, [9_000_000_001, 9_000_000_778, 9_000_001_234])
    expected = [
        litres(9_000_000_778, k_l) - litres(9_000_000_001, k_l),
        litres(9_000_001_234, k_l) - litres(9_000_000_778, k_l),
    ]
    assert [Decimal(each or "0") * 1000 for each in site.ledger().volumes(DAY, 2)] == expected


@pytest.mark.parametrize(
    ("removal", "rejected"),
    [(99_999_999, []), (100_000_000, [("malformed", 100_000_000)]), (4 * 10**18, [("malformed", 4 * 10**18)])],
)
def test_1_4_3_a_removal_index_of_more_digits_than_the_register_is_malformed(
    removal: int, rejected: list[tuple[str, int]]
) -> None:
    """99 999 990 at the start of the Day, of eight digits of 0.1 m³: 9 ticks to the greatest index there is, and 20 m³ of N."""
    site = Site(DAY, index=99_999_990)
    site.remove("2026-01-08 14:00", removal)
    site.fit("2026-01-08 14:00", 5)
    site.index(start(NEXT), 25, DAY, received="2026-01-09 06:00", meter="N")
    view = site.ledger()
    assert view.rejected(DAY) == rejected
    assert view.statuses(DAY, 1) == (["deemed"] if rejected else ["actual"])
    assert view.volumes(DAY, 1) == (["100.000"] if rejected else ["20.900"])


def test_2_4_4c_an_estimate_of_many_places() -> None:
    site = a_site(0)
    site.read(DAY, [0, 250])
    site.bypass("2026-01-08 10:00", "2026-01-08 12:00", "123456789012.000500", known="2026-01-08 13:00")
    assert site.ledger().volumes(DAY, 1) == ["123456789735.949"]  # 723.948 and 123456789012.001


def test_1_5_the_greatest_flow_of_a_register_of_hundreds_of_feet() -> None:
    """2831.6846592 m³/h is 1000 ticks an hour, at the register's own conditions: 24 240 a Day with 1%, and one tick."""
    for advance, rejected in [(24_241, []), (24_242, [("excess_flow", 24_242)])]:
        site = a_site(0, q_max="2831.6846592")
        site.read(DAY, [0, advance])
        assert site.ledger().rejected(DAY) == rejected


def test_4_2_6_deemed_by_an_annual_quantity_of_many_places() -> None:
    """1 234 567.89 / 365 = 3382.37778... kWh, at 38.123456 MJ/m³ 319.39813... m³."""
    found = a_site(0, aq="1234567.89", value="38.123456").day(DAY, start(DAY, 6))
    assert (found.status, str(found.quantity_kwh), str(found.volume_m3)) == ("deemed", "3382.378", "319.398")
