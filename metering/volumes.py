"""Volumes and quantities, exactly: registers, their advances, litres and watt-hours (M1.4.4; the rules page, section 3).

A volume is an integer count of litres (0.001 m³); a quantity is an integer count of watt-hours (0.001 kWh). R(x) rounds
half up to the litre.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Literal

import msgspec

from metering.facts import MeterFitted

HOUR_US = 3_600_000_000
SPANS_KEPT = 64
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, Decimal, Decimal | None, Decimal, int | None, Decimal | None]).decode
Verdict = Literal["", "negative_advance", "excess_flow"]


def half_up(numerator: int, denominator: int) -> int:
    """The quotient rounded half up in size, with its sign; `denominator` is above 0."""
    if numerator < 0:
        return -half_up(-numerator, denominator)
    return (2 * numerator + denominator) // (2 * denominator)


class Register:
    """A meter's register: what an index on it is worth, and which advances are possible.

    `k` is m³ a tick, times the conversion factor; with a convertor (`conversion_factor` null) the factor is 1.
    """

    def __init__(
        self,
        digits: int,
        m3_per_tick: Decimal,
        conversion_factor: Decimal | None,
        q_max_m3_per_h: Decimal,
        unconverted_digits: int | None,
        unconverted_m3_per_tick: Decimal | None,
    ) -> None:
        self.packed = _encode(  # what `unpacked_register` takes
            (digits, m3_per_tick, conversion_factor, q_max_m3_per_h, unconverted_digits, unconverted_m3_per_tick)
        )
        self.digits = digits
        self.modulus: int = 10**digits
        self.m3_per_tick = Fraction(m3_per_tick)
        self.k = self.m3_per_tick * Fraction(1 if conversion_factor is None else conversion_factor)
        self.unconverted: tuple[int, Fraction] | None = None  # digits and m³ a tick of the unconverted register
        if unconverted_digits is not None and unconverted_m3_per_tick is not None:
            self.unconverted = unconverted_digits, Fraction(unconverted_m3_per_tick)
        litres = self.k * 1000
        self._litres_2n, self._litres_d = 2 * litres.numerator, litres.denominator
        self._flow = Fraction(q_max_m3_per_h) / self.m3_per_tick / HOUR_US  # ticks a microsecond
        self._limits: dict[Decimal, tuple[int, int]] = {}
        self._limit_ticks: dict[tuple[int, Decimal], int] = {}

    def litres(self, index: int) -> int:
        """R(index × k)."""
        return (index * self._litres_2n + self._litres_d) // (2 * self._litres_d)

    def volume_l(self, start: int, end: int) -> int:
        """The volume between two indexes, the second unwrapped where it is the smaller."""
        if end < start:
            end += self.modulus
        twice, divisor = self._litres_2n, self._litres_d  # the difference of two `litres`
        return (end * twice + divisor) // (2 * divisor) - (start * twice + divisor) // (2 * divisor)

    def excessive(self, advance: int, span_us: int, factor: Decimal) -> bool:
        """Whether the advance, less one tick, is more than `factor` times the greatest flow gives in that time."""
        numerator, denominator = self._limit(factor)
        return (advance - 1) * denominator > numerator * span_us

    def verdict(self, start: int, end: int, span_us: int, factor: Decimal) -> Verdict:
        """Why an advance from `start` to `end` in `span_us` is not admissible; empty where it is.

        An index that goes down is a roll-over where the unwrapped advance is possible and below half of the register.
        """
        advance = end - start
        if advance < 0:
            advance += self.modulus
            if 2 * advance >= self.modulus or self.excessive(advance, span_us, factor):
                return "negative_advance"
            return ""
        return "excess_flow" if self.excessive(advance, span_us, factor) else ""

    def limit_ticks(self, span_us: int, factor: Decimal) -> int:
        """The greatest admissible advance in that time, in whole ticks."""
        known = self._limit_ticks.get((span_us, factor))
        if known is None:
            numerator, denominator = self._limit(factor)
            known = numerator * span_us // denominator + 1
            if len(self._limit_ticks) < SPANS_KEPT:
                self._limit_ticks[span_us, factor] = known
        return known

    def _limit(self, factor: Decimal) -> tuple[int, int]:
        known = self._limits.get(factor)
        if known is None:
            limit = self._flow * Fraction(factor)
            known = self._limits[factor] = (limit.numerator, limit.denominator)
        return known


def register_of(fitted: MeterFitted) -> Register:
    """The register of a meter. Meters of one kind share it: points are made from their states often, its fractions once."""
    return _register(
        fitted.digits, fitted.m3_per_tick, fitted.conversion_factor, fitted.q_max_m3_per_h,
        fitted.unconverted_digits, fitted.unconverted_m3_per_tick,
    )  # fmt: skip


_register = lru_cache(maxsize=1024)(Register)


@lru_cache(maxsize=1024)
def unpacked_register(packed: bytes) -> Register:
    """The register of a meter in a state."""
    return _register(*_decode(packed))


def quantity_wh(volume_l: int, mj_per_m3: Decimal) -> int:
    """Metered Quantity: volume × calorific value / 3.6, to 0.001 kWh (1.4.4(b))."""
    numerator, denominator = _ratio(mj_per_m3)
    return half_up(volume_l * numerator * 10, denominator * 36)


def volume_of_wh(quantity: int, mj_per_m3: Decimal) -> int:
    """The litres that hold this quantity at this calorific value (4.2.6)."""
    numerator, denominator = _ratio(mj_per_m3)
    return half_up(quantity * denominator * 36, numerator * 10)


def daily_share_wh(annual_quantity_kwh: Decimal) -> int:
    """Annual Quantity / 365, to 0.001 kWh (4.2.6)."""
    numerator, denominator = _ratio(annual_quantity_kwh)
    return half_up(numerator * 1000, denominator * 365)


def litres_of(m3: Decimal) -> int:
    """A volume in m³ as litres, rounded half up."""
    numerator, denominator = _ratio(m3)
    return half_up(numerator * 1000, denominator)


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """`total` shared in proportion to the weights, or in equal parts where all are 0, by largest remainder, ties to the
    earlier. The parts sum to the total (4.4.5(b)(ii)). A weight below 0 counts as 0."""
    weights = [max(0, weight) for weight in weights]
    if not any(weights):
        weights = [1] * len(weights)
    whole = sum(weights)
    parts = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda n: (-(total * weights[n] % whole), n))
    for n in by_remainder[: total - sum(parts)]:
        parts[n] += 1
    return parts


@lru_cache(maxsize=4096)
def _ratio(value: Decimal) -> tuple[int, int]:
    return value.as_integer_ratio()
