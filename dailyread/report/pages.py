"""The statement and the chase list as HTML pages that need nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal

from dailyread.report import chase_tables, statement_tables
from dailyread.report.chase_tables import Told
from dailyread.report.html import environment
from dailyread.report.plots import Plotter
from dailyread.report.statement import EquipmentMonth, Mark, UserMonth, exact_share, mark_of, reason_of
from dailyread.report.wording import gas_day, pounds
from metering.chase import Chase
from metering.gasday import GasDays


def render_statements(months: Sequence[UserMonth], as_of: datetime, calendar: GasDays) -> str:
    """The statements' page."""
    page, plotter = environment(calendar.zone).get_template("statement.html"), Plotter()
    return page.render(
        months=[(of, plotter.share(of.gas_days, of.share_of_day, of.record.required)) for of in months],
        as_of=as_of,
        marks=list(Mark),
        mark_of=mark_of,
        tooltip=tooltip,
        title=statement_tables.title,
        figures=statement_tables.figures,
        reason_of=reason_of,
        share=exact_share,
        pounds=pounds,
        part=lambda line: pounds(line.charge_gbp / Decimal(line.sharing)),
    )


def tooltip(item: EquipmentMonth, day: date) -> str:
    """A Day of an item in words."""
    line = item.lines[day]
    mark = mark_of(line)
    why = reason_of(str(line.reason)) if mark is Mark.EXCLUDED else ", ".join(line.missing)
    row = f"; {line.run} in a row" if line.run and mark is not Mark.EXCLUDED else ""
    return f"{gas_day(day)}: {mark.word}{f': {why}' if why else ''}{row}"


def render_chase(found: Chase, calendar: GasDays, told: Told) -> str:
    """The chase list's page."""
    page = environment(calendar.zone).get_template("chase.html")
    return page.render(
        found=found,
        has_facts=told.has_facts,
        warnings=told.warnings(found, calendar),
        headline=chase_tables.headline(found, calendar),
        words=chase_tables,
        reason_of=reason_of,
        share=exact_share,
        pounds=pounds,
    )
