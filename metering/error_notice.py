"""One User's Daily Read Error Notice about a Day: its states, what comes of it, and who bears the costs (4.8.3 to 4.8.6).

notice -> inspection_overdue -> inspected -> accepted | final | rejected -> expert; and agreed, whenever transporter and User
agree. Instants are microseconds, volumes litres.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

from metering.facts import ExpertDetermination, Inspection
from metering.ledger import ReadErrorState
from metering.volumes import half_up

WAITING = ("notice", "inspection_overdue")
Bearer: TypeAlias = Literal["user", "transporter"] | None


def to_litres(m3: Decimal) -> int:
    """A volume in whole litres, half up."""
    numerator, denominator = m3.as_integer_ratio()
    return half_up(numerator * 1000, denominator)


class Statement(NamedTuple):
    """What the transporter says of a Day after an inspection (4.8.3(b)): the readings stand (`stands`: the equipment works,
    or did on that Day), or its estimate, None as long as that is missing."""

    us: int
    inspection: Inspection
    stands: bool
    estimate_l: int | None


@dataclass
class Course:
    """One User's notice about a Day: how it stands, and what was heard on the way."""

    user: str
    user_l: int
    state: ReadErrorState = "notice"
    due_us: int | None = None
    statement: Statement | None = None
    rejected: bool = False
    expert: ExpertDetermination | None = None
    expert_us: int = 0
    settled_us: int = 0
    agreed_l: int | None = None

    def lapse(self, us: int) -> None:
        """What happened by itself up to this instant, that included."""
        if self.due_us is None or us < self.due_us:
            return
        if self.state == "notice":
            self.state = "inspection_overdue"
        elif self.state == "inspected":
            self._settle("final", self.due_us)

    def state_what_was_found(self, statement: Statement, due_us: int) -> None:
        """The transporter's statement; the User has until `due_us` to reject it, once it is complete."""
        if self.state == "agreed":
            self.statement = self.statement or statement
        elif self.state in WAITING or self.state == "inspected":
            self.state, self.statement = "inspected", statement
            self.due_us = due_us if self._complete else None

    def accept(self, us: int) -> None:
        """The User accepts the statement: also one that it rejected, or that is final."""
        if self.state in ("inspected", "final", "rejected") and self._complete:
            self._settle("accepted", us)

    def reject(self, us: int) -> None:
        """The User's rejection notice."""
        if self.state == "inspected" and self._complete:
            self.state, self.due_us, self.rejected = "rejected", None, True

    def hear(self, expert: ExpertDetermination, us: int) -> None:
        """What the expert determined of the Day, as received at `us`; it counts where the User has given rejection notice."""
        if self.state in ("rejected", "expert"):
            self.expert, self.expert_us = expert, us
            self._settle("expert", us)

    def agree(self, litres: int, us: int) -> None:
        """Transporter and User agree on the Day's volume."""
        self.agreed_l = litres
        self._settle("agreed", us)

    def _settle(self, state: ReadErrorState, us: int) -> None:
        self.state, self.settled_us, self.due_us = state, us, None

    @property
    def _complete(self) -> bool:
        return self.statement is not None and (self.statement.stands or self.statement.estimate_l is not None)

    @property
    def stated_us(self) -> int:
        """When the statement was received that counts; 0 before."""
        return self.statement.us if self.statement else 0

    @property
    def faulty_by_transporter(self) -> bool:
        """Whether in the transporter's judgement the equipment does not work (4.8.12(a)(i))."""
        return self.statement is not None and not self.statement.inspection.equipment_works

    @property
    def fault_us(self) -> int | None:
        """When the expert made known that it does not work, although the transporter says it does (4.8.12(c)(ii))."""
        contradicted = self.expert is not None and not self.expert.equipment_works and self._transporter_says_it_works
        return self.expert_us if contradicted else None

    @property
    def expert_says_it_works(self) -> bool:
        """He is asked only where the transporter says so too (4.8.6(a)(i))."""
        return self.expert is not None and self.expert.equipment_works and self._transporter_says_it_works

    @property
    def _transporter_says_it_works(self) -> bool:
        return self.statement is not None and self.statement.inspection.equipment_works

    @property
    def estimate_l(self) -> int | None:
        """The metered consumption that was agreed or established other than by the readings; None where there is none."""
        if self.state == "agreed":
            return self.agreed_l
        if self.state == "expert" and self.expert is not None:
            return None if self.expert_says_it_works else to_litres(self.expert.volume_m3)
        if self.state in ("accepted", "final") and self.statement is not None:
            return self.statement.estimate_l
        return None

    def volume_l(self, readings_l: int | None) -> int | None:
        """The metered consumption that was agreed or established; None until then."""
        estimate = self.estimate_l
        settled = self.state in ("accepted", "final", "expert", "agreed")
        return readings_l if settled and estimate is None else estimate

    def inspection_cost(self, readings_l: int | None) -> Bearer:
        """Who bears the inspection's cost, once that is settled (4.8.5)."""
        if self.statement is None or readings_l is None:
            return None
        off = abs(self.user_l - readings_l)
        if off == 0 or 10 * off < abs(readings_l):
            return "user"
        if not self.statement.inspection.meter_works:
            return "transporter"
        volume = self.volume_l(readings_l)
        if volume is None:
            return None
        if not self.rejected:
            return "user" if self.statement.inspection.equipment_works else "transporter"
        return "transporter" if self._found_faulty(readings_l) and self._nearer_to_user(volume, readings_l) > 0 else "user"

    def expert_cost(self, readings_l: int | None) -> Bearer:
        """Who bears the expert's (4.8.6(b))."""
        if self.expert is None or readings_l is None:
            return None
        nearer = self._nearer_to_user(to_litres(self.expert.volume_m3), readings_l)
        return "user" if self.expert_says_it_works or nearer < 0 else "transporter"

    def _found_faulty(self, readings_l: int) -> bool:
        """By the transporter, by agreement on another volume than the readings', or by the expert."""
        if not self._transporter_says_it_works:
            return True
        if self.state == "agreed":
            return self.agreed_l != readings_l
        return self.state == "expert" and not self.expert_says_it_works

    def _nearer_to_user(self, volume: int, readings_l: int) -> int:
        """By how many litres the volume is closer to the User's estimate than to the transporter's, or the readings."""
        estimate = self.statement.estimate_l if self.statement else None
        return abs(volume - (readings_l if estimate is None else estimate)) - abs(volume - self.user_l)
