"""What commands take as arguments: Gas Days, months and instants as people write them."""

from __future__ import annotations

import argparse
import re
from datetime import date, datetime


def gas_day(text: str) -> date:
    """A Gas Day, 2026-01-31."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date like 2026-01-31") from None


def month(text: str) -> str:
    """A month, 2026-01."""
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a month like 2026-01")
    return text


def instant(text: str) -> datetime:
    """An instant with an offset, 2026-01-09T11:00:00Z."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an instant such as 2026-01-09T11:00:00Z") from None
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no offset; write Z or +00:00 behind it")
    return at
