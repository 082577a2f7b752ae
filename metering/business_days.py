"""Business Days: Monday to Friday less the bank holidays of England and Wales; the periods of 4.8.3 are counted in them.

A Business Day is a Gas Day (an ordinal, as in `gasday.py`) and runs from its start to its end. Bank holidays are those that
the `holidays` package knows, up to the year 2100; what is proclaimed later than its release comes by the settings.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from functools import cache


class BusinessDays:
    """The calendar of Business Days, with the settings' bank holidays `added` and `removed`."""

    def __init__(self, added: Iterable[date] = (), removed: Iterable[date] = ()) -> None:
        self._added = frozenset(day.toordinal() for day in added)
        self._removed = frozenset(day.toordinal() for day in removed)

    def holds(self, day: int) -> bool:
        """Whether the Gas Day is a Business Day."""
        if date.fromordinal(day).weekday() >= 5 or day in self._added:
            return False
        return day in self._removed or day not in _bank_holidays(date.fromordinal(day).year)

    def after(self, day: int, count: int) -> int:
        """The `count`-th Business Day (1 or more) after a Gas Day, which itself does not count."""
        while count:
            day += 1
            count -= self.holds(day)
        return day


@cache
def _bank_holidays(year: int) -> frozenset[int]:
    import holidays  # a fifth of a second, which only those pay who have a notice to deal with

    return frozenset(day.toordinal() for day in holidays.country_holidays("GB", subdiv="ENG", years=year))
