"""What the values of facts may be: how large, how long, of which years; and the errors that say so.

Each check raises ValueError, with the field, what was found, and what is allowed.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, TypeAlias

from msgspec import Meta

Instant: TypeAlias = Annotated[datetime, Meta(tz=True, description="RFC 3339 with an offset")]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
Digits: TypeAlias = Annotated[int, Meta(ge=1, le=18)]

FIRST_GAS_DAY, LAST_GAS_DAY = date(1970, 1, 1), date(2199, 12, 31)
FIRST_YEAR, YEAR_AFTER = 1970, 2200
INTERVAL_S_MAX = 31 * 86_400
SPAN_S_MAX = (date(YEAR_AFTER, 1, 1) - date(FIRST_YEAR, 1, 1)).days * 86_400
NUMBER_MIN, NUMBER_MAX = -12, 15  # powers of ten between which a number other than 0 is
NUMBER_DIGITS_MAX = 28  # as many as a Decimal keeps
INTEGER_MAX = 2**62  # so that two of them, and their difference, fit into 64 bits

Count: TypeAlias = Annotated[int, Meta(ge=0, lt=INTEGER_MAX)]


def check_gas_day(day: date, field: str = "gas_day") -> None:
    """The Day is one that there can be."""
    if not FIRST_GAS_DAY <= day <= LAST_GAS_DAY:
        raise ValueError(f"{field}: {day} is not between {FIRST_GAS_DAY} and {LAST_GAS_DAY}")


def check_instant(field: str, at: datetime) -> None:
    """The instant is in years that there can be."""
    if not FIRST_YEAR <= at.year < YEAR_AFTER:
        raise ValueError(f"{field}: {at.isoformat()} is not in the years {FIRST_YEAR} to {YEAR_AFTER - 1}")


def check_number(field: str, value: Decimal) -> None:
    """A number that is one, and of a size that exact arithmetic can bear: an exponent of a billion is an attack."""
    if not value.is_finite():
        raise ValueError(f"{field}: {value} is not a number")
    digits, exponent = len(value.as_tuple().digits), value.adjusted()
    if value and not (NUMBER_MIN <= exponent <= NUMBER_MAX and digits <= NUMBER_DIGITS_MAX):
        raise ValueError(
            f"{field}: {value} is not between 1E{NUMBER_MIN} and 1E{NUMBER_MAX + 1}, with at most {NUMBER_DIGITS_MAX} digits"
        )


def check_positive(field: str, value: Decimal) -> None:
    """A number above 0."""
    check_number(field, value)
    if value <= 0:
        raise ValueError(f"{field}: {value} is not a number above 0")


def check_not_negative(field: str, value: Decimal) -> None:
    """A number of 0 or more."""
    check_number(field, value)
    if value < 0:
        raise ValueError(f"{field}: {value} is not a number of 0 or more")


def check_order(field: str, first: datetime, last: datetime) -> None:
    """Not before where it begins."""
    if last < first:
        raise ValueError(f"{field}: {last.isoformat()} is before {first.isoformat()}, where it begins")


def fits(value: Any) -> bool:
    """Whether an entry of `index` can travel: its integers within 62 bits."""
    if type(value) is int:
        return -INTEGER_MAX < value < INTEGER_MAX
    if isinstance(value, (list, tuple)):
        return all(map(fits, value))
    if isinstance(value, dict):
        return all(map(fits, value.values()))
    return True
