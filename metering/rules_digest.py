"""Whether two sets of rules come to the same: a digest of what they say, and the Gas Day from which two of them differ.

How a file spells its rules does not matter: comments, the order of keys, `0.10` for `0.1`, a default written out, an entry
that changes nothing.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import msgspec

from metering.rules import Rules, Validation
from metering.validation import RULES

DIGEST_BYTES = 8
DATED = ("validation", "performance")  # fields with entries that hold from a Gas Day on


def digest(rules: Rules) -> bytes:
    """Eight bytes that differ where the rules do."""
    said = _said(rules)
    listed = said | {name: list(said[name].items()) for name in DATED}
    return blake2b(msgspec.json.encode(listed, order="sorted"), digest_size=DIGEST_BYTES).digest()


def differ_from(one: Rules, other: Rules) -> date | None:
    """The first Gas Day on which a ledger under the one may not be that under the other; None where it always is.

    What is not dated, or reaches back from a later Day, makes them differ from the beginning on.
    """
    first, second = _said(one), _said(other)
    if any(first[name] != second[name] for name in first if name not in DATED):
        return date.min
    if (one.stuck_days, one.flags_advances) != (other.stuck_days, other.flags_advances):
        return date.min
    found = (_first_difference(first[name], second[name]) for name in DATED)
    return min((day for day in found if day is not None), default=None)


def _first_difference(one: dict[date, Any], other: dict[date, Any]) -> date | None:
    return next((day for day in sorted({*one, *other}) if _held(one, day) != _held(other, day)), None)


def _held(entries: dict[date, Any], day: date) -> Any:
    return entries[max(since for since in entries if since <= day)]


def _said(rules: Rules) -> dict[str, Any]:
    """All that the rules say, in one spelling; of what is dated only the Days on which something changes."""
    said = {name: _plain(getattr(rules, name)) for name in rules.__struct_fields__}
    for name in DATED:
        changes: dict[date, Any] = {}
        for entry in said[name]:
            since = entry.pop("since")
            if not changes or changes[max(changes)] != entry:
                changes[since] = entry
        said[name] = changes
    return said


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value.normalize() + 0)
    if isinstance(value, Validation):
        actions = {rule.id: value.action.get(rule.id, rule.action) for rule in RULES}
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__} | {"action": actions}
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(_plain(each) for each in value)
    return value
