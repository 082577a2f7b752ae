"""The report as one HTML page that needs nothing else: no scripts, no requests, drawings inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dailyread.report import palette, wording
from dailyread.report.compare import MEANINGS, Comparison, compare, difference_m3, outcome
from dailyread.report.files import write_whole
from dailyread.report.plots import Plotter, describe
from dailyread.report.statement import exact
from dailyread.report.summary import Kind, Share, Summary

ROWS_MAX = 1000
PLOTS_MAX = 48


@dataclass(frozen=True, slots=True)
class Cell:
    """One Day of one site in the grid; `kind` is None where the ledger has no Day."""

    kind: Kind | None
    title: str


@dataclass(frozen=True, slots=True)
class Site:
    """One row of the grid, and the site's plot (empty where there are too many sites to plot)."""

    name: str
    anchor: str
    users: str
    cells: tuple[Cell, ...]
    share: Share
    plot: Markup


def write_page(path: Path, summary: Summary, truth_litres: Mapping[tuple[str, date], int] | None = None) -> None:
    """Write the page, whole or not at all: what stood there before stays until the new page is on disk."""
    write_whole(path, render(summary, truth_litres))


def render(summary: Summary, truth_litres: Mapping[tuple[str, date], int] | None = None) -> str:
    """The page's text. With the truth of simulated meters, in litres, it holds the comparison, too."""
    plotter = Plotter()
    comparisons = None if truth_litres is None else compare(summary, truth_litres)
    return (
        environment(summary.calendar.zone)
        .get_template("page.html")
        .render(
            s=summary,
            kinds=_kinds(summary),
            bars=_bars(summary),
            months=[(wording.month(days[0]), days[0].year, len(days)) for days in _by_month(summary.gas_days)],
            sites=_sites(summary, plotter, truth_litres),
            share_plot=plotter.share(summary.gas_days, summary.share_of_day) if summary.gas_days else "",
            rows_max=ROWS_MAX,
            comparisons=comparisons,
            outcome=outcome(comparisons or ()),
            by_site=_by_site(comparisons or ()),
            verdicts=[
                (verdict, MEANINGS[verdict]) for verdict in MEANINGS if any(c.verdict == verdict for c in comparisons or ())
            ],
        )
    )


def environment(zone: ZoneInfo) -> Environment:
    """Where all pages' templates are, and what they can say; instants in the zone's local time."""
    made = Environment(
        loader=PackageLoader("dailyread.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    made.filters |= {
        "number": wording.number,
        "plain_number": exact,
        "difference": wording.difference,
        "difference_m3": difference_m3,
        "gas_day": wording.gas_day,
        "count": lambda count: f"{count:,}",
        "json": lambda value: msgspec.json.encode(value).decode(),
        "instant": lambda at: _instant(zone, at),
    }
    made.globals |= {"palette": Markup(palette.css()), "all_kinds": list(Kind), "version": version("dailyread")}
    return made


def _harmless(value: Any) -> Any:
    """Text without control characters; what is markup already is our own."""
    return wording.plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _instant(zone: ZoneInfo, at: datetime) -> Markup:
    text = wording.instant(at, zone)
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), text)


def _kinds(summary: Summary) -> list[Kind]:
    used = {summary.kind(point, day) for point, day in summary.days}
    return [kind for kind in Kind if kind in used]


def _bars(summary: Summary) -> list[Kind]:
    """The kinds in plots of volumes: those of the Days, and what Days were closed out as that were determined later."""
    closed_out = {Kind[day.status.upper()] for day in summary.days.values() if day.status in ("assumed", "deemed")}
    return [kind for kind in Kind if kind in {*_kinds(summary), *closed_out}]


def _sites(summary: Summary, plotter: Plotter, truth_litres: Mapping[tuple[str, date], int] | None) -> list[Site]:
    plotted = _plotted(summary)
    return [
        Site(
            name=point,
            anchor=f"site-{n}",
            users=", ".join(sorted({user for d in summary.gas_days for user in _users(summary, point, d)})),
            cells=tuple(_cell(summary, point, d) for d in summary.gas_days),
            share=summary.share_of_point.get(point, Share()),
            plot=plotter.volumes(summary, point, truth_litres) if point in plotted else Markup(""),
        )
        for n, point in enumerate(summary.meter_points, start=1)
    ]


def _plotted(summary: Summary) -> set[str]:
    """All sites, or those with the most Days that were not read by 11:00."""

    def ordinary(point: str) -> int:
        return sum(summary.kind(point, day) is Kind.BY_11 for day in summary.gas_days)

    return set(sorted(summary.meter_points, key=ordinary)[:PLOTS_MAX])


def _users(summary: Summary, point: str, gas_day: date) -> tuple[str, ...]:
    day = summary.days.get((point, gas_day))
    return day.users if day else ()


def _cell(summary: Summary, point: str, gas_day: date) -> Cell:
    day = summary.days.get((point, gas_day))
    kind = summary.kind(point, gas_day)
    if day is None or kind is None:
        return Cell(None, f"{wording.gas_day(gas_day)}: no record")
    return Cell(kind, describe(day, kind))


def _by_month(days: Sequence[date]) -> list[list[date]]:
    return [list(month) for _, month in groupby(days, key=lambda day: (day.year, day.month))]


def _by_site(rows: Sequence[Comparison]) -> list[tuple[str, list[Comparison]]]:
    return [(point, list(of_point)) for point, of_point in groupby(rows, key=lambda row: row.meter_point)]
