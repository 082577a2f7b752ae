"""Facts, changes and prospects of an explanation in words: one sentence each, for a person who does not program."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec

from dailyread.report.wording import UNKNOWN, difference, gas_day, instant, number, plain
from metering import facts as of
from metering.explanation import Advance, Deadline, Moment, Origin, Prospect, ProspectKind, RecordChange, Source
from metering.facts import AnyFact
from metering.ledger import AnyRecord, CheckReadFound, Day, ReadError, Reconciliation, Rejected, Tolerance

STATUS = {"actual": "read", "deemed": "deemed", "assumed": "assumed", "provisional": "provisional"}
READER = {"dre": "Daily Read Equipment", "on_site": "on site"}
SHOWN_MOST = 4

PROSPECTS: dict[ProspectKind, str] = {
    "day_ends": "The Day ends {when}; until then it is provisional.",
    "close_out": "The Exit Close-Out, {when}, fixes its status and volume with what is known then.",
    "valid_with": "{readings} at {when}, received before that, would make it Valid.",
    "restored_with": "{readings} at {when} would restore it.",
    "run_start": "No reading stands before its run: one at {when} would be its start.",
    "run_end": "The next standing reading at a boundary ends its run, which is shared out once its Days are closed out.",
    "run_closed_out": "Its run is shared out once all its Days are closed out, {when}; {day} is the last of them.",
    "inside_run": "A standing reading at any boundary inside the run would split it, and each part be shared out anew.",
    "volume_unknown": "The volume of {day} is not known, as no calorific value of that Day has been received.",
    "boundary_rejected": "Readings stand at both its boundaries, but one of its own batch was rejected: it cannot become "
    "Valid, unless its batch is withdrawn and read again.",
    "capture_fault": "What captures the index did not work at its boundaries: readings of then would not restore it.",
    "calorific_value": "The calorific value of {ldz} for {day} has not been received; the quantity follows it.",
    "later_calorific_value": "Another calorific value of {ldz} for {day} would change its quantity.",
    "read_error": "The Daily Read Error Notice of {user}: the next step is due {when}.",
    "substitution": "As things stand, {volume} by a Daily Read Error take the place of its readings at the close-out.",
    "fixed": "Its closed-out volume stays. What is learned later goes beside it, as a reconciliation.",
}


class Words:
    """Words about facts and instants in one time zone."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone

    def at(self, instant_: datetime) -> str:
        """An instant in local time."""
        return instant(instant_, self.zone)

    def short(self, instant_: datetime) -> str:
        """The same without its year."""
        local = instant_.astimezone(self.zone)
        return self.at(instant_).replace(f" {local.year} ", " ", 1)

    def span(self, first: datetime, last: datetime | None) -> str:
        return f"from {self.at(first)} " + ("on" if last is None else f"to {self.at(last)}")

    def source(self, source: Source) -> str:
        """Who said an index, and when we received it."""
        received, meter = f"received {self.at(source.received_at)}", f"meter {plain(source.meter)}"
        if source.batch is None:
            how = "fitting" if source.fact == "meter_fitted" else "removal"
            return f"{received}; {meter} at its {how}"
        batch = f"with the batch of {gas_day(source.batch)}"
        batch += f" (piece {source.piece} of {source.pieces})" if source.pieces != 1 else ""
        by = "".join(f", {each}" for each in self._sender(source.gateway, source.outbox, source.sequence))
        return f"{received} {batch}; {meter}, {READER[source.source or 'dre']}{by}"

    @staticmethod
    def _sender(gateway: str | None, outbox: str | None, sequence: int | None) -> Iterator[str]:
        if gateway is not None:
            yield f"gateway {plain(gateway)}"
        if outbox is not None:
            yield f"outbox {plain(outbox)}"
        if sequence is not None:
            yield f"number {sequence}"

    def sender(self, gateway: str | None, outbox: str | None, sequence: int | None) -> str:
        """Gateway, outbox and sequence, as far as they are known."""
        return ", ".join(self._sender(gateway, outbox, sequence)) or "–"

    def fact(self, fact: AnyFact) -> str:
        """What a fact says."""
        match fact:
            case of.Readings():
                return self._readings(fact)
            case of.CalorificValue():
                return f"calorific value of {plain(fact.ldz)} for {gas_day(fact.gas_day)}: {fact.mj_per_m3} MJ/m³"
            case of.Registered():
                users = ", ".join(map(plain, fact.users))
                return (
                    f"registered from {gas_day(fact.gas_day)} on: {users}; LDZ {plain(fact.ldz)}; Annual Quantity "
                    f"{fact.annual_quantity_kwh:,} kWh"
                )
            case of.MeterFitted():
                return f"meter {plain(fact.meter)} fitted {self.at(fact.at)}, index {fact.index:,}"
            case of.MeterRemoved():
                return f"meter {plain(fact.meter)} removed {self.at(fact.at)}, index {fact.index:,}"
            case of.PollFailed():
                return (
                    f"the meter {plain(fact.meter)} was asked {_times(fact.attempts)} and gave no answer: {plain(fact.reason)}"
                )
            case of.GivenUp():
                return f"{fact.readings} readings were dropped by a full outbox: {plain(fact.reason)}"
            case of.Withdrawn():
                return f"readings of meter {plain(fact.meter)} withdrawn by {plain(fact.by)}: {plain(fact.reason)}"
            case of.Alarm():
                return f"alarm {plain(fact.kind)} at {self.at(fact.at)}" + (f": {plain(fact.detail)}" if fact.detail else "")
            case of.BypassUsed():
                return f"by-pass used {self.span(fact.at, fact.until)}: {number(fact.estimated_m3)} m³ by estimate"
            case of.EquipmentFault():
                what = "captures the index" if fact.part == "capture" else "transmits readings"
                return f"what {what} did not work {self.span(fact.from_, fact.until)}"
            case of.CheckRead():
                beside = "" if fact.equipment_index is None else f", the equipment {fact.equipment_index:,}"
                return f"check read of meter {plain(fact.meter)} {self.at(fact.at)}: index {fact.index:,}{beside}"
            case of.MeterErrorAdjusted():
                return f"meter error of meter {plain(fact.meter)} {self.at(fact.at)}: index adjusted to {fact.index:,}"
            case of.ReadErrorNotice():
                return f"Daily Read Error Notice of {plain(fact.user)}, who estimates {number(fact.volume_estimate_m3)} m³"
            case of.Inspection():
                return self._inspection(fact)
            case of.EstimateAccepted():
                return f"{plain(fact.user)} accepts the transporter's statement"
            case of.RejectionNotice():
                return f"{plain(fact.user)} rejects the transporter's statement"
            case of.ExpertDetermination():
                return f"the expert: the equipment {_works(fact.equipment_works)}, {number(fact.volume_m3)} m³"
            case of.AdjustmentAgreed():
                return f"agreed for {gas_day(fact.gas_day)}: {number(fact.volume_m3)} m³"
            case of.Provided():
                return f"provided to {plain(fact.user)}, version {fact.version}"
            case of.Excluded():
                until = "on" if fact.until is None else f"to {gas_day(fact.until)}"
                return f"excluded from {gas_day(fact.from_)} {until}: {_spaced(fact.reason)}"
            case _:
                return _any_fact(fact)

    def _inspection(self, fact: of.Inspection) -> str:
        found = [f"the equipment {_works(fact.equipment_works)}"]
        found += [] if fact.reed_switch_works else ["the reed switch does not work"]
        found += [] if fact.meter_works else ["the meter itself reads wrong"]
        found += [] if fact.volume_estimate_m3 is None else [f"estimate {number(fact.volume_estimate_m3)} m³"]
        return f"inspection {self.at(fact.at)} for {gas_day(fact.gas_day)}: {', '.join(found)}"

    def _readings(self, fact: of.Readings) -> str:
        given = [(at, index) for at, index in zip(fact.instants(), fact.index, strict=True) if index is not None]
        count = f"{len(given)} reading{'s' * (len(given) != 1)}"
        if not given:
            return f"a piece without readings for {gas_day(fact.gas_day)}"
        first, last = given[0], given[-1]
        at = f" at {self.short(first[0])}" if len(given) == 1 else ""
        to = f" to {index(last[1])}" if len(given) > 1 else ""
        return f"{count} for {gas_day(fact.gas_day)}{at}: index {index(first[1])}{to}"

    def deadline(self, deadline: Deadline) -> str:
        what = "the Day begins" if deadline.kind == "begins" else "Exit Close-Out of"
        return what if deadline.kind == "begins" else f"{what} {gas_day(deadline.gas_day)}"

    def causes(self, moment: Moment) -> list[str]:
        """What was received or fell due at an instant; what is many of a kind as one."""
        said = [*map(self.fact, moment.facts), *map(self.deadline, moment.deadlines)]
        more = len(said) - SHOWN_MOST
        return said if more <= 1 else [*said[:SHOWN_MOST], f"and {more} more"]

    def changes(self, moment: Moment) -> list[str]:
        """What became of the Day's records; many readings that one rule rejected as one."""
        said: list[str] = []
        rejected: dict[tuple[str, str], list[RecordChange]] = {}
        for change in moment.changes:
            record = change.after or change.before
            if isinstance(record, Rejected) and record.at is not None:
                how = "rejected" if change.after is not None else "no longer rejected"
                rejected.setdefault((how, record.rule), []).append(change)
            else:
                said += self._change(change)
        for (how, rule), many in rejected.items():
            said += [f"{len(many)} readings {how} by {rule}"] if len(many) > 2 else self._each(many)
        return said

    def _each(self, changes: list[RecordChange]) -> list[str]:
        return [line for change in changes for line in self._change(change)]

    def _change(self, change: RecordChange) -> list[str]:
        before, after = change.before, change.after
        if isinstance(after, Day):
            return list(self._day_change(before if isinstance(before, Day) else None, after))
        if after is None:
            return [] if before is None else [f"no longer: {self.record(before)}"]
        return [self.record(after) + ("" if before is None else f" (before: {self.record(before)})")]

    def _day_change(self, before: Day | None, after: Day) -> Iterator[str]:
        if before is None or (before.status, before.closed_out) != (after.status, after.closed_out):
            was = "" if before is None else f"{STATUS[before.status]} → "
            yield f"{was}closed out as {STATUS[after.status]}" if after.closed_out else f"{was}{STATUS[after.status]}"
        pairs = [
            ("", "volume_m3", "m³"), ("", "quantity_kwh", "kWh"), ("determined ", "determined_m3", "m³"),
            ("determined ", "determined_kwh", "kWh"),
        ]  # fmt: skip
        for what, name, unit in pairs:
            now, was_ = getattr(after, name), None if before is None else getattr(before, name)
            if now != was_:
                how = f" ({after.determined_status})" if name == "determined_m3" and now is not None else ""
                yield f"{what}{'' if was_ is None else number(was_) + ' → '}{amount(now, unit)}{how}"
        for side in ("start", "end"):
            now, was_ = getattr(after, f"{side}_index"), None if before is None else getattr(before, f"{side}_index")
            if now != was_:
                yield f"index at the {side}: {'none' if now is None else f'{now:,}'}"
        if after.valid != (before is not None and before.valid):
            yield ("Valid" + (", by 11:00" if after.by_11 else ", after 11:00")) if after.valid else "no longer Valid"
        if before is not None and before.users != after.users:
            yield f"Users: {', '.join(map(plain, after.users))}"
        if failed := [rule for rule in after.failed if before is None or rule not in before.failed]:
            yield f"failed: {', '.join(failed)}"

    def record(self, record: AnyRecord) -> str:
        """A record beside the Day's."""
        match record:
            case Reconciliation():
                return (
                    f"reconciliation ({_spaced(record.kind)}): {difference(record.volume_m3)} m³, "
                    f"{difference(record.quantity_kwh)} kWh"
                )
            case Rejected():
                if record.at is None:
                    return f"the batch rejected by {record.rule} (M{record.clause}): {plain(record.detail)}"
                return f"{index(record.index)} at {self.short(record.at)} rejected by {record.rule} (M{record.clause})"
            case Tolerance():
                within = "within" if record.within else "outside"
                return f"{record.check}: {number(record.a)} against {number(record.b)} m³, {within} tolerance"
            case CheckReadFound():
                return (
                    f"check read of {gas_day(record.gas_day)} (M4.7), from {gas_day(record.from_)}: by the meter "
                    f"{number(record.check_kwh)} kWh, by the Days {number(record.previous_kwh)}, difference "
                    f"{difference(record.difference_kwh)}; {'reconciled' if record.reconciled else 'recorded only'}"
                )
            case ReadError():
                return f"Daily Read Error of {plain(record.user)} (M4.8): {', '.join(self._standing(record))}"
            case Day():
                return f"{STATUS[record.status]}, {amount(record.volume_m3, 'm³')}"

    def _standing(self, record: ReadError) -> Iterator[str]:
        """How a notice stands, and who pays for what."""
        yield _spaced(record.state) + ("" if record.refused is None else f" by M{record.refused}")
        if record.volume_m3 is not None:
            yield f"{number(record.volume_m3)} m³"
        if record.due is not None:
            yield f"{'was ' if record.state == 'inspection_overdue' else ''}due {self.at(record.due)}"
        if record.inspection_cost is not None:
            yield f"the inspection is paid by the {record.inspection_cost}"
        if record.expert_cost is not None:
            yield f"the expert by the {record.expert_cost}"

    def prospect(self, prospect: Prospect) -> str:
        """What would change the Day, or fixes it, with the clause."""
        said = PROSPECTS[prospect.kind].format(
            when=" and ".join(map(self.at, prospect.instants)),
            readings="A standing reading" if len(prospect.instants) == 1 else "Standing readings",
            day="" if prospect.gas_day is None else gas_day(prospect.gas_day),
            ldz="its LDZ" if prospect.ldz is None else f"LDZ {plain(prospect.ldz)}",
            user=plain(prospect.user or ""),
            volume=amount(prospect.volume_m3, "m³"),
        )
        return f"{said} (M{prospect.clause})"

    def advance(self, advance: Advance) -> str:
        """The arithmetic of an advance."""
        factor = "" if advance.conversion_factor is None else f" × {advance.conversion_factor}"
        k = f"{advance.m3_per_tick}{factor}"
        end = f"{advance.end_index:,}" + (f" + 10^{advance.digits}" if advance.rolled_over else "")
        return (
            f"{end} × {k} − {advance.start_index:,} × {k} = {number(advance.end_m3)} − {number(advance.start_m3)} = "
            f"{number(advance.volume_m3)} m³"
        )


def amount(value: Decimal | None, unit: str) -> str:
    """A volume or quantity with its unit."""
    return UNKNOWN if value is None else f"{number(value)} {unit}"


def index(value: object) -> str:
    """An index as it came, which may be anything."""
    return f"{value:,}" if type(value) is int else plain(msgspec.json.encode(value).decode())[:40]


def origin_clause(origin: Origin) -> str:
    """The status of an origin with its clause; a Day whose readings a Daily Read Error replaced was not read."""
    return f"{STATUS[origin.status] if origin.substituted_m3 is None else 'substituted'} (M{origin.clause})"


def days(first: date, last: date) -> str:
    return gas_day(first) if first == last else f"{gas_day(first)} to {gas_day(last)}"


def _works(works: bool) -> str:
    return "works" if works else "does not work"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _spaced(text: str) -> str:
    return text.replace("_", " ")


def _any_fact(fact: AnyFact) -> str:
    """A fact of which there is nothing better to say than its fields."""
    fields = msgspec.to_builtins(fact, builtin_types=(datetime, date))
    kind = _spaced(str(fields.pop("fact")))
    left = {key: value for key, value in fields.items() if key not in ("received_at", "meter_point", "gas_day")}
    said = ", ".join(f"{_spaced(key)} {plain(_value(value))}" for key, value in left.items())
    return f"{kind}: {said}" if said else kind


def _value(value: object) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
