"""How values are written for people: volumes, Days, instants; and text from outside made harmless for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

UNKNOWN = "not known"


def number(value: Decimal | None) -> str:
    """A volume or quantity with all its places and thousands apart; what is null is said to be not known."""
    return UNKNOWN if value is None else f"{value:,.3f}".replace("-", "−")


def difference(value: Decimal | None) -> str:
    """The same with its sign."""
    return f"{value:+,.3f}".replace("-", "−") if value else number(value)


def pounds(value: Decimal) -> str:
    """Money to the penny, thousands apart."""
    return f"{value:,.2f}"


def gas_day(day: date) -> str:
    """`Sun 26 Oct 2025`, the same in every locale."""
    weekday = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[day.weekday()]
    return f"{weekday} {day.day} {month(day)} {day.year}"


def month(day: date) -> str:
    """`Oct`, the same in every locale."""
    return ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[day.month - 1]


def instant(at: datetime, zone: ZoneInfo) -> str:
    """`26 Oct 2025 01:30 BST`: local time with its abbreviation, which tells the repeated hour apart; seconds if any."""
    local = at.astimezone(zone)
    clock = f"{local:%H:%M:%S}" if local.second else f"{local:%H:%M}"
    return f"{local.day} {month(local)} {local.year} {clock} {local.tzname()}"


def some(names: Sequence[str], most: int) -> str:
    """The first of the names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more


def plain(text: str) -> str:
    """The text with every control and invisible character replaced: names and details come from outside."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
