"""Plots as inline SVG: drawn by matplotlib with one figure that is used again, coloured by the page's CSS variables.

Text stays text, in the page's font; every bar carries a tooltip. No text from outside reaches matplotlib.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dailyread.report.palette import mark, to_variables
from dailyread.report.summary import Kind, Share, Summary, is_due, kind_of
from dailyread.report.wording import gas_day, month, number
from metering.ledger import Day

HATCHES = {Kind.ASSUMED: "/////", Kind.DEEMED: "xxxx"}
TICKS_MAX = 9
REQUIRED = Decimal("0.975")  # 5.2.1
WIDE_IN = (12.0, 2.0)
MARGIN_IN = 0.6  # room for 1,000,000 in a font of the reader
DAYS_MIN = 14  # fewer Days do not get wider bars
DAYS_WITH_DATE_MAX = 120
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dailyread",
    "font.size": 8,
    "font.family": "sans-serif",
    "hatch.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": mark("line"),
    "axes.labelcolor": mark("muted"),
    "xtick.color": mark("muted"),
    "ytick.color": mark("muted"),
    "ytick.left": False,
    "xtick.major.size": 3,
    "grid.color": mark("line"),
    "grid.linewidth": 0.6,
}


class Plotter:
    """Draws a page's plots. Each is one `<svg>`, ready to be put into the page."""

    def __init__(self) -> None:
        self._drawn = 0
        with matplotlib.rc_context(_SETTINGS):
            self._figure = Figure()
            FigureCanvasSVG(self._figure)

    def volumes(self, summary: Summary, meter_point: str, truth_litres: Mapping[tuple[str, date], int] | None = None) -> Markup:
        """A site's daily volumes by status, the determined volume beside the substituted one, the truth as a dash."""
        titles: dict[str, str] = {}
        width_in, height_in = WIDE_IN if len(summary.meter_points) == 1 else (6.4, 1.9)
        with matplotlib.rc_context(_SETTINGS):
            axes = self._axes(width_in, height_in, summary.gas_days)
            for n, gas_day_ in enumerate(summary.gas_days):
                day = summary.days.get((meter_point, gas_day_))
                if day is not None:
                    self._bars(axes, n, day, summary, titles)
            self._truth(axes, summary, meter_point, truth_litres or {})
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axes.set_title("m³ a Day", loc="left", fontsize=8, color=mark("muted"))
            return self._svg(f"Daily volumes of {meter_point}, m³, bars by status", titles)

    def share(self, days: Sequence[date], shares: Mapping[date, Share], required: Decimal = REQUIRED) -> Markup:
        """The share of Days Valid by 11:00, for each Day, against what is required."""
        titles: dict[str, str] = {}
        per_cent = float(required * 100)
        with matplotlib.rc_context(_SETTINGS):
            axes = self._axes(*WIDE_IN, days)
            for n, gas_day_ in enumerate(days):
                share = shares.get(gas_day_, Share())
                if share.due:
                    titles[f"b{n}-0"] = f"{gas_day(gas_day_)}: {share.by_11} of {share.due}, {share.percent}"
                    met = share.by_11 >= required * share.due
                    role, hatch = ("by_11-bar", "") if met else ("assumed-bar", HATCHES[Kind.ASSUMED])
                    if share.by_11:
                        self._bar(axes, f"b{n}-0", n, 0.8, 100 * share.by_11 / share.due, role, hatch)
                    else:
                        self._word(axes, f"b{n}-0", n, "0")
            axes.axhline(per_cent, color=mark("ink"), linewidth=0.9, linestyle=(0, (4, 2)))
            axes.set_ylim(0, 104)
            below = [tick for tick in (0, 25, 50, 75) if tick < per_cent - 10]
            axes.set_yticks([*below, per_cent], [*(f"{tick}%" for tick in below), f"{per_cent:g}%"])
            return self._svg(f"Share of Days Valid by 11:00, for each Gas Day, against {per_cent:g}%", titles)

    def _axes(self, width_in: float, height_in: float, days: Sequence[date]) -> Axes:
        self._figure.clear()
        self._figure.set_size_inches(width_in, height_in)
        self._figure.patch.set_visible(False)
        axes = self._figure.add_axes((MARGIN_IN / width_in, 0.12, 1 - (MARGIN_IN + 0.05) / width_in, 0.76))
        axes.patch.set_visible(False)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlim(-0.6, max(DAYS_MIN, len(days)) - 0.4)
        ticks = _ticks(days)
        axes.set_xticks(ticks, [_label(days[n], len(days)) for n in ticks])
        return axes

    def _bars(self, axes: Axes, n: int, day: Day, summary: Summary, titles: dict[str, str]) -> None:
        """One bar for a Day; two, side by side, for one that was determined later."""
        due = is_due(summary.calendar, day.gas_day, summary.as_of)
        kind = kind_of(day, due)
        if day.determined_status is None:
            self._volume(axes, f"b{n}-0", n, 0.8, day.volume_m3, kind)
        else:
            closed_out = Kind.BY_11 if day.status == "actual" else Kind[day.status.upper()]
            self._volume(axes, f"b{n}-0", n - 0.2, 0.4, day.volume_m3, closed_out)
            self._volume(axes, f"b{n}-1", n + 0.2, 0.4, day.determined_m3, kind)
        titles[f"b{n}-0"] = titles[f"b{n}-1"] = describe(day, kind)

    def _volume(self, axes: Axes, gid: str, x: float, width: float, value: Decimal | None, kind: Kind) -> None:
        if not value:
            self._word(axes, gid, x, "?" if value is None else "0")
            return
        self._bar(axes, gid, x, width, float(value), f"{kind.name.lower()}-bar", HATCHES.get(kind, ""))

    @staticmethod
    def _word(axes: Axes, gid: str, x: float, text: str) -> None:
        """A word in place of a bar that has no height."""
        axes.annotate(text, (x, 0), ha="center", va="bottom", color=mark("muted"), fontsize=7).set_gid(gid)

    @staticmethod
    def _bar(axes: Axes, gid: str, x: float, width: float, value: float, role: str, hatch: str) -> None:
        """A bar; what is hatched is light inside, so that it differs from a read one without colour, too."""
        face = mark(role.replace("-bar", "-soft")) if hatch else mark(role)
        bars = axes.bar(x, value, width, color=face, hatch=hatch, edgecolor=mark(role), linewidth=0.6)
        bars.patches[0].set_gid(gid)

    @staticmethod
    def _truth(axes: Axes, summary: Summary, meter_point: str, truth_litres: Mapping[tuple[str, date], int]) -> None:
        """A dash at the truth of each Day that was not read."""
        not_read = [
            (n, truth_litres[meter_point, d] / 1000)
            for n, d in enumerate(summary.gas_days)
            if (meter_point, d) in truth_litres
            and (day := summary.days.get((meter_point, d))) is not None
            and (day.status != "actual" or day.determined_status)
        ]
        if not_read:
            x, y = zip(*not_read, strict=True)
            axes.hlines(y, [n - 0.5 for n in x], [n + 0.5 for n in x], color=mark("ink"), linewidth=1.4)

    def _svg(self, label: str, titles: Mapping[str, str]) -> Markup:
        out = io.StringIO()
        self._figure.savefig(out, format="svg", metadata={"Date": None})
        self._drawn += 1
        return Markup(_inlined(out.getvalue(), f"p{self._drawn}", label, titles))


def describe(day: Day, kind: Kind) -> str:
    """One line about a Day, for tooltips: what it was closed out at, and what was determined later."""
    text = f"{gas_day(day.gas_day)}: {day.status}, {number(day.volume_m3)} m³"
    if day.status == "actual" and kind is Kind.LATE:
        text += ", Valid after 11:00"
    if day.determined_status:
        text += f"; {day.determined_status}, {number(day.determined_m3)} m³"
    if day.failed:
        text += f"; failed: {', '.join(day.failed)}"
    return text


def _ticks(days: Sequence[date]) -> list[int]:
    """The places of some Days to label: Mondays, or where these are too many, first Days of months or fewer."""
    for wanted in (_is_monday, _is_first):
        ticks = [n for n, day in enumerate(days) if wanted(day)]
        if 2 <= len(ticks) <= TICKS_MAX:
            return ticks
    step = max(1, len(days) // TICKS_MAX)
    return list(range(0, len(days) - step // 2, step))


def _label(day: date, days: int) -> str:
    return f"{day.day} {month(day)}" if days <= DAYS_WITH_DATE_MAX else f"{month(day)} {day.year}"


def _is_monday(day: date) -> bool:
    return day.weekday() == 0


def _is_first(day: date) -> bool:
    return day.day == 1


def _inlined(svg: str, prefix: str, label: str, titles: Mapping[str, str]) -> str:
    """The drawing for a page that holds others: no ids twice, no size of its own, named, with tooltips."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    view_box = re.search(r'viewBox="[^"]*"', svg)
    opening = f'<svg class="drawing" role="img" aria-label="{escape(label)}" {view_box[0] if view_box else ""}>'
    svg = opening + svg[svg.index(">") + 1 :]
    svg = re.sub(r'<g id="(b\d+-\d)">', lambda found: f"<g><title>{escape(titles[found[1]])}</title>", svg)
    svg = re.sub(r'<(g|text) id="[^"]*"', r"<\1", svg)
    svg = re.sub(r' id="([^"]+)"', rf' id="{prefix}-\1"', svg)
    svg = re.sub(r'xlink:href="#|url\(#', lambda found: {"x": f'href="#{prefix}-', "u": f"url(#{prefix}-"}[found[0][0]], svg)
    svg = re.sub(r"(\d+\.\d\d)\d+", r"\1", svg)
    svg = re.sub(r">\s+<", "><", svg)
    return to_variables(svg)
