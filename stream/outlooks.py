"""What is to come at the points of a partition: which are due by an instant, and which are registered in an LDZ.

One entry of a dictionary a point, and most points share what it says: 24 hours' worth of them are due at 05:00. Looking through
all takes some 50 ns a point, and is done where a Day begins or a calorific value comes.
"""

from __future__ import annotations

from metering.state import Outlook

_NEVER_US = 2**63


class Outlooks:
    """The outlook of each point."""

    def __init__(self) -> None:
        self._of: dict[str, Outlook] = {}
        self._same: dict[Outlook, Outlook] = {}
        self._next_us = _NEVER_US  # nothing is due before

    def note(self, meter_point: str, outlook: Outlook) -> None:
        """What is to come at a point from now on."""
        if self._of.get(meter_point) == outlook:
            return
        self._of[meter_point] = self._same.setdefault(outlook, outlook)
        due_us = outlook.due_us
        if due_us is not None and due_us < self._next_us:
            self._next_us = due_us

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, meter_point: object) -> bool:
        return meter_point in self._of

    def due_us(self, meter_point: str) -> int:
        """When something happens by itself at a point next; an instant that never comes where nothing is to come."""
        outlook = self._of.get(meter_point)
        return _NEVER_US if outlook is None or outlook.due_us is None else outlook.due_us

    def due_by(self, now_us: int) -> list[str]:
        """The points at which something is due by an instant."""
        if self._next_us > now_us:
            return []
        self._same = {each: each for each in {id(each): each for each in self._of.values()}.values()}  # but those of before
        self._next_us = min((each.due_us for each in self._same if each.due_us is not None), default=_NEVER_US)
        return self._with({id(each) for each in self._same if each.due_us is not None and each.due_us <= now_us})

    def registered_in(self, ldz: str) -> list[str]:
        """The points that are registered in an LDZ, or were."""
        return self._with({id(each) for each in self._same if ldz in each.ldzs})

    def _with(self, outlooks: set[int]) -> list[str]:
        return [meter_point for meter_point, each in self._of.items() if id(each) in outlooks] if outlooks else []
