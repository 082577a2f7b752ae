"""An explanation of a Gas Day on a terminal: the number, where it comes from, what it was before, what would change it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from zoneinfo import ZoneInfo

from rich import box
from rich.console import Console, JustifyMethod
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dailyread.report.explanation_words import STATUS, Words, amount, days, index, origin_clause
from dailyread.report.wording import difference, gas_day, number, plain
from metering.explanation import Advance, Boundary, Explanation, Origin, Run
from metering.facts import AnyFact
from metering.ledger import CheckReadFound, ReadError, Reconciliation, Rejected

ROWS_MOST = 40
CHAIN_MOST = 12
INDENT = 2
ORDINARY = {"readings", "calorific_value"}  # of a run's other Days not worth a line: what matters of them is in the history


def print_explanation(to: Console, explained: Explanation, zone: ZoneInfo) -> None:
    """All of it, in the order in which a person asks."""
    page = _Page(to, explained, Words(zone))
    page.head()
    page.bounds()
    page.closed_out()
    page.determined()
    page.quantity()
    page.beside()
    page.rules()
    page.rejected()
    page.history()
    page.about_run()
    page.prospects()


class _Page:
    """The parts of the page, each printed by a method."""

    def __init__(self, to: Console, explained: Explanation, words: Words) -> None:
        self.to, self.of, self.words = to, explained, words

    def heading(self, text: str) -> None:
        self.to.print()
        self.to.print(Text(text, style="bold"))

    def lines(self, lines: Iterable[str], style: str = "") -> None:
        for line in lines:
            text = line.lstrip()
            self.to.print(Padding(Text(text, style=style), (0, 0, 0, INDENT + len(line) - len(text)), expand=False))

    def table(self, *columns: tuple[str, JustifyMethod]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, header_style="dim")
        for name, justify in columns:
            table.add_column(name, justify=justify, no_wrap=justify == "right")
        return table

    def show(self, table: Table) -> None:
        self.to.print(Padding(table, (0, 0, 0, INDENT), expand=False))

    # --- the number -------------------------------------------------------------------------------------------------

    def head(self) -> None:
        of, words = self.of, self.words
        title = Text(f"{plain(of.meter_point)}, Gas Day {gas_day(of.gas_day)}", style="bold")
        self.to.print(title.append(f", as of {words.at(of.as_of)}", style="not bold"))
        self.to.print()
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column()
        table.add_column(justify="right", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column()
        for label, volume, quantity, note, style in self._figures():
            table.add_row(label, volume, quantity, note, style=style)
        self.show(table)
        self.to.print()
        self.lines(self._particulars(), style="dim")

    def _figures(self) -> Iterator[tuple[str, str, str, str, str]]:
        day, how = self.of.day, origin_clause(self.of.origins[0])
        if day.determined_status is not None and self.of.determination is not None:
            how_now = f"{day.determined_status} (M{self.of.determination.clause})"
            since = "" if day.since is None else f", since {self.words.at(day.since)}"
            yield "Determined", amount(day.determined_m3, "m³"), amount(day.determined_kwh, "kWh"), how_now + since, "bold"
        label, style = "Closed out" if day.closed_out else "Up to now", "" if day.determined_status else "bold"
        yield label, amount(day.volume_m3, "m³"), amount(day.quantity_kwh, "kWh"), how, style
        for record in self.of.records:
            if isinstance(record, Reconciliation):
                note = record.kind.replace("_", " ") + ": closed out less determined" * (record.kind == "failed_daily_read")
                yield "Reconciled", f"{difference(record.volume_m3)} m³", f"{difference(record.quantity_kwh)} kWh", note, ""

    def _particulars(self) -> Iterator[str]:
        of, day, words = self.of, self.of.day, self.words
        hours = (of.times.ends - of.times.starts).total_seconds() / 3600
        yield f"The Day runs from {words.at(of.times.starts)} to {words.at(of.times.ends)}, {hours:g} hours."
        closed = "was" if day.closed_out else "is"
        yield f"Its 11:00 is {words.at(of.times.by_11)} (M5.2.1)."
        yield f"Its Exit Close-Out {closed} {words.at(of.times.close_out)} (M4.4.1)."
        valid = "not Valid"
        if day.valid:
            since = "" if day.valid_at is None else f" since {words.at(day.valid_at)}"
            valid = f"Valid{since}, {'by' if day.by_11 else 'not by'} 11:00"
        yield f"It is {valid}, and {'may' if day.ratchet_day else 'cannot'} be a Ratchet Day (M4.4.3)."
        users = ", ".join(map(plain, day.users))
        yield f"User{'s' * (len(day.users) > 1)} {users}; equipment {plain(day.equipment)}" + (
            "" if of.registered is None else f"; Annual Quantity {of.registered.annual_quantity_kwh:,} kWh"
        )
        for meter in of.meters:
            factor = "with a convertor" if meter.conversion_factor is None else f"factor {meter.conversion_factor}"
            yield (
                f"Meter {plain(meter.meter)}: {meter.digits} digits of {meter.m3_per_tick} m³, {factor}, at most "
                f"{meter.q_max_m3_per_h} m³/h; fitted {words.at(meter.at)} at {meter.index:,}"
            )

    # --- readings ---------------------------------------------------------------------------------------------------

    def bounds(self) -> None:
        self.heading("Readings at its boundaries (M4.2.1)")
        self._boundary("start", self.of.start)
        self._boundary("end", self.of.end)
        self._batch()

    def _boundary(self, side: str, boundary: Boundary) -> None:
        at = boundary.said_by[0].at if boundary.said_by else boundary.at
        stands = "no standing reading" if boundary.index is None else f"index {boundary.index:,}"
        self.lines([f"{side:<5} {self.words.at(at)}  {stands}"])
        if boundary.index is not None and not boundary.said_by:
            self.lines(["      none of the readings that count now says so by itself: see the history below"], style="dim")
        for n, source in enumerate(boundary.said_by):
            self.lines([f"      {'also ' if n else ''}{self.words.source(source)}"], style="dim")

    def _batch(self) -> None:
        pieces = self.of.pieces
        if not pieces:
            self.lines(["No batch of the Day itself was received."])
            return
        table = self.table(
            ("piece", "right"),
            ("readings", "right"),
            ("first", "left"),
            ("last", "left"),
            ("sent by", "left"),
            ("received", "left"),
        )
        for piece in pieces[:ROWS_MOST]:
            missing = f" (+{piece.missing} missing)" if piece.missing else ""
            first = "" if piece.first_at is None else f"{self.words.short(piece.first_at)}: {index(piece.first_index)}"
            last = "" if piece.last_at is None else f"{self.words.short(piece.last_at)}: {index(piece.last_index)}"
            notes = [*piece.status, *([f"clock {piece.clock_offset_s:+g} s"] if piece.clock_offset_s is not None else [])]
            notes += [f"came {piece.copies + 1} times"] if piece.copies else []
            notes += [f"withdrawn {self.words.short(piece.withdrawn_at)}"] if piece.withdrawn_at is not None else []
            sender = self.words.sender(piece.gateway, piece.outbox, piece.sequence)
            received = "; ".join([self.words.at(piece.received_at), *notes])
            table.add_row(*map(Text, (str(piece.number), f"{piece.readings}{missing}", first, last, sender, received)))
        self.lines(["Its batch:"])
        self.show(table)
        if len(pieces) > ROWS_MOST:
            self.lines([f"and {len(pieces) - ROWS_MOST} more pieces"])

    # --- volumes ----------------------------------------------------------------------------------------------------

    def closed_out(self) -> None:
        chain = self.of.origins
        self.heading("How the closed-out volume came about" if chain[0].closed_out else "How the present volume comes about")
        for origin in _ends(chain):
            if origin is None:
                self.lines([f"… and so on, {len(chain) - CHAIN_MOST} Days, each a week before …"])
            else:
                self._origin(origin)

    def _origin(self, origin: Origin) -> None:
        self.lines([f"{gas_day(origin.gas_day)}: {amount(origin.volume_m3, 'm³')}, {origin_clause(origin)}"])
        self.lines((f"  {line}" for line in self._steps(origin)), style="dim")

    def _steps(self, origin: Origin) -> Iterator[str]:
        if origin.annual_quantity_kwh is not None:
            yield f"Annual Quantity {origin.annual_quantity_kwh:,} kWh / 365 = {number(origin.quantity_kwh)} kWh"
            value = origin.calorific_value
            if value is None:
                yield "no calorific value received yet, so that its volume is not known"
            else:
                yield f"{number(origin.quantity_kwh)} kWh × 3.6 / {value.mj_per_m3} MJ/m³ = {number(origin.volume_m3)} m³"
        yield from self._advances(origin.advances)
        for bypass in origin.bypass:
            yield f"+ {number(bypass.estimated_m3)} m³ by the by-pass, estimated, received {self._received(bypass)} (M2.4.4(c))"
        if origin.substituted_m3 is not None:
            yield f"a Daily Read Error put {number(origin.substituted_m3)} m³ in place of what was read (M{origin.clause})"
        if origin.rests_on is not None:
            by_bypass = any(each.bypass for each in self.of.origins if each.gas_day == origin.rests_on)
            less = ", without what went by the by-pass" if by_bypass else ""
            yield f"the closed-out volume of a week before, {gas_day(origin.rests_on)}{less}"
        if not origin.accounted:
            yield (
                "These steps do not lead to exactly this volume. The ledger's stands: what a Daily Read Error puts in place of "
                "readings (M4.8), for example, is in the history below."
            )

    def _received(self, fact: object) -> str:
        return self.words.at(fact.received_at)  # type: ignore[attr-defined]

    def _advances(self, advances: Iterable[Advance]) -> Iterator[str]:
        several = len(list(advances)) > 1
        for advance in advances:
            if several:
                yield f"meter {plain(advance.meter)}, {self.words.short(advance.at)} to {self.words.short(advance.until)}:"
            yield self.words.advance(advance)

    def determined(self) -> None:
        found = self.of.determination
        if found is None:
            return
        clause = "4.4.5" if found.run is not None else found.clause
        self.heading(f"What was determined later (M{clause})" if found.status else f"Not determined yet (M{clause})")
        if found.run is None:
            self.lines([f"A Daily Read Error put this in place of its readings (M{found.clause}): see the history below."])
            return
        run = found.run
        if found.status == "apportioned" or (found.status is None and run.first != run.last):
            self._run(run)
        elif found.status == "restored":
            self.lines(["Both its boundaries have standing readings: the volume between them."])
            self.lines(self._advances(run.advances), style="dim")
        if not found.accounted:
            self.lines(["These steps do not lead to exactly the ledger's figures; those stand. See the history below."])

    def _run(self, run: Run) -> None:
        self.lines([f"A run of {len(run.shares)} Days without standing readings between them: {days(run.first, run.last)}"])
        self._boundary("start", run.start)
        self._boundary("end", run.end)
        if run.volume_m3 is None:
            return
        self.lines(self._advances(run.advances), style="dim")
        table = self.table(
            ("Day", "left"), ("weight m³", "right"), ("closed out", "left"), ("share, exact m³", "right"), ("share m³", "right")
        )
        for share in run.shares[:ROWS_MOST]:
            own = share.gas_day == self.of.gas_day
            cells = (gas_day(share.gas_day), number(share.weight_m3), STATUS[share.status])
            exact = "–" if share.exact_m3 is None else f"{share.exact_m3:,}"
            shared = "–" if share.determined_m3 is None else number(share.determined_m3)
            table.add_row(*cells, exact, shared, style="bold" if own else "")
        table.add_section()
        weight = sum(share.weight_m3 or 0 for share in run.shares)
        table.add_row("the run", number(weight), "", "", number(run.volume_m3))  # type: ignore[arg-type]
        self.show(table)
        self.lines(["Whole litres, the largest remainders first, ties to the earlier Day (M4.4.5(b)(ii))."], style="dim")

    def quantity(self) -> None:
        of, day, value = self.of, self.of.day, self.of.quantity.mj_per_m3
        self.heading("Quantity: volume × calorific value / 3.6 (M1.4.4(b))")
        if value is None:
            self.lines([f"No calorific value of LDZ {plain(of.quantity.ldz or '?')} for the Day has been received."])
        for n, each in enumerate(reversed(of.quantity.calorific_values)):
            says = f"{each.mj_per_m3} MJ/m³ for LDZ {plain(each.ldz)}, received {self._received(each)}"
            self.lines([says if n == 0 else f"before: {says}"], style="dim" if n else "")
        if value is not None and day.quantity_kwh is not None and of.origins[0].annual_quantity_kwh is None:
            self.lines([f"{number(day.volume_m3)} m³ × {value} / 3.6 = {number(day.quantity_kwh)} kWh"], style="dim")
        if value is not None and day.determined_kwh is not None:
            self.lines(
                [f"{number(day.determined_m3)} m³ × {value} / 3.6 = {number(day.determined_kwh)} kWh, determined"], style="dim"
            )

    def beside(self) -> None:
        """Check reads and Daily Read Errors that concern the Day; what the head and the rules have is not said again."""
        records = [record for record in self.of.records if isinstance(record, (CheckReadFound, ReadError))]
        if records:
            self.heading("Check reads and Daily Read Errors (M4.7, M4.8)")
            self.lines(map(self.words.record, records))

    # --- rules ------------------------------------------------------------------------------------------------------

    def rules(self) -> None:
        ran = [each for each in self.of.rules if each.ran or each.failed]
        self.heading("Validation rules that ran (M1.5)")
        if not ran:
            self.lines(["None: there was nothing to judge."])
            return
        table = self.table(("rule", "left"), ("clause", "left"), ("does", "left"), ("", "left"), ("found", "left"))
        for each in ran:
            result = "failed" if each.failed else "passed"
            style = "bold red" if each.failed else ""
            table.add_row(
                each.rule, each.clause, f"{each.action}s", Text(result, style=style), Text(plain("; ".join(each.found)))
            )
        self.show(table)
        if left := [each.rule for each in self.of.rules if not (each.ran or each.failed)]:
            self.lines([f"Did not run, having nothing to compare: {', '.join(left)}"], style="dim")

    def rejected(self) -> None:
        if not self.of.rejected:
            return
        self.heading("Rejected (M1.5)")
        table = self.table(("reading", "left"), ("rule, clause", "left"), ("why", "left"), ("received", "left"))
        alike = [list(group) for _, group in groupby(self.of.rejected, lambda each: (each.gas_day, each.rule, each.detail))]
        for group in alike[:ROWS_MOST]:
            first = group[0]
            other = "" if first.gas_day == self.of.gas_day else f", batch of {gas_day(first.gas_day)}"
            why = Text(plain(first.detail))
            table.add_row(
                Text(self._readings(group) + other), f"{first.rule}, {first.clause}", why, self.words.at(first.received_at)
            )
        self.show(table)
        if len(alike) > ROWS_MOST:
            self.lines([f"and {len(alike) - ROWS_MOST} more"])

    def _readings(self, rejected: Sequence[Rejected]) -> str:
        """The readings that one rule rejected for one reason."""
        said = ["the batch" if each.at is None else f"{index(each.index)} at {self.words.short(each.at)}" for each in rejected]
        return "; ".join(said) if len(said) < 3 else f"{len(said)} readings, {said[0]} to {said[-1]}"

    # --- time -------------------------------------------------------------------------------------------------------

    def history(self) -> None:
        self.heading("Who knew what when")
        table = self.table(("when", "left"), ("what was received, or fell due", "left"), ("what became of the Day", "left"))
        moments = self.of.history
        for moment in moments:
            causes = Text("\n".join(self.words.causes(moment)))
            changes = self.words.changes(moment)
            table.add_row(self.words.at(moment.at), causes, Text("\n".join(changes)), style="" if changes else "dim")
        self.show(table)
        if not self.of.provided:
            self.lines(["Provided to no User, as far as we were told (M4.5)."], style="dim")

    def about_run(self) -> None:
        """What was received about the other Days of the run, in short."""
        kinds: dict[str, list[AnyFact]] = {}
        for fact in self.of.run_facts:
            if (kind := str(fact.__struct_config__.tag)) not in ORDINARY:
                kinds.setdefault(kind.replace("_", " "), []).append(fact)
        if not kinds:
            return
        self.heading("Received about the other Days of its run")
        for kind, facts in kinds.items():
            last = f"last {self._received(facts[-1])}: {self.words.fact(facts[-1])}"
            self.lines([f"{len(facts)} × {kind}, {last}"])

    def prospects(self) -> None:
        self.heading("What would change it")
        unknown = [each for each in self.of.prospects if each.kind == "volume_unknown"]
        self.lines(self.words.prospect(each) for each in self.of.prospects if each not in unknown[1:])
        if len(unknown) > 1:
            self.lines([f"The same holds for {len(unknown) - 1} more Days of its run."])


def _ends(chain: tuple[Origin, ...]) -> list[Origin | None]:
    """A chain of origins; of a long one its first ones and its last."""
    return list(chain) if len(chain) <= CHAIN_MOST + 1 else [*chain[: CHAIN_MOST - 1], None, chain[-1]]
