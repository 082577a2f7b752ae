"""The terminal's tables: legible without colour, within the terminal's width, harmless whatever names hold."""

from __future__ import annotations

import io
import re
from datetime import timedelta

import pytest
from rich.console import Console

from dailyread.report import tables
from dailyread.report.compare import Comparison, compare
from dailyread.report.summary import Summary, summarise
from tests.dailyread.ledgers import AS_OF, FIRST, SITES, only, records, truth

SUMMARY = summarise(records(), AS_OF)


def shown(summary: Summary, width: int = 120, comparisons: list[Comparison] | None = None, colour: bool = False) -> str:
    out = io.StringIO()
    to = Console(file=out, width=width, highlight=False, force_terminal=colour, color_system="256" if colour else None)
    tables.print_report(to, summary, comparisons)
    return out.getvalue()


def row(text: str, site: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(site))


def test_grid_is_one_character_a_day() -> None:
    text = shown(SUMMARY)
    assert row(text, "SMP-01").split()[1] == "DDDDDDD" + "·" * 32 + "~"
    assert row(text, "SMP-03").split()[1] == "·" * 14 + "PPPP" + "·" * 21 + "~"
    assert row(text, "SMP-04").split()[2:] == ["35/39", "89.7%"]


def test_every_glyph_is_in_the_legend() -> None:
    lines = shown(SUMMARY).splitlines()
    for glyph in "·LADRPV~":
        assert any(line.startswith(f"{glyph} ") for line in lines)


def test_day_of_month_stands_above_its_column() -> None:
    lines = shown(SUMMARY).splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("SMP-01"))
    column = row("\n".join(lines), "SMP-02").index("R")
    assert (lines[at - 2][column], lines[at - 1][column]) == (" ", "8")  # 8 October
    assert lines[at - 3].split() == ["Sep", "Oct", "2025", "Nov"]


@pytest.mark.parametrize("width", [80, 120, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long_names = [only("SMP-11", n, meter_point="m" * 60 + f"-{n:03}", equipment="e") for n in range(3)]
    summary = summarise([*records(), *long_names], AS_OF)
    false = truth() | {("SMP-11", FIRST): 1, ("SMP-99", FIRST): 1}
    text = shown(summary, width, compare(summary, false))
    # no number loses its end, whatever the width
    assert re.search(r"^SMP-11 .* 19,990\.901 +\+408\.799 *$", text, re.MULTILINE)
    assert re.search(r"^All Days .* 158,136\.100 +1,735,104\.430 ", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) <= width
    assert "…mmmmmmmm-002 " in text


def test_forty_days_are_one_block_at_120_and_several_at_60() -> None:
    assert shown(SUMMARY, 120).count("\nSMP-07 ") == 1
    narrow = shown(SUMMARY, 60)
    assert narrow.count("\nSMP-07 ") == 2
    assert narrow.count("100.0%") == 3  # the share stands in the last block only


def test_sums_and_share() -> None:
    text = shown(SUMMARY)
    assert "Valid by 11:00: 397 of 429 Days, 92.5%; standard 97.5% (5.2.1): not met; below it on 29 of 39 Days" in text
    assert row(text, "Deemed (4.2.6)").endswith("3 volumes, 3 quantities")
    assert row(text, "excess_flow").split() == ["excess_flow", "M1.5", "1", "8"]
    assert row(text, "unusual_volume").split() == ["unusual_volume", "1", "flagged"]


def test_comparison_says_where_it_disagrees() -> None:
    false = truth() | {("SMP-11", FIRST): 1}
    text = shown(SUMMARY, comparisons=compare(SUMMARY, false))
    assert "disagrees with the truth on 1 of 468 Days" in text
    assert any(line.split()[:5] == ["SMP-11", "Fri", "26", "Sep", "2025"] for line in text.splitlines())
    assert "agrees with the truth: 450 of 468 Days to the litre; 18 are estimated" in shown(
        SUMMARY, comparisons=compare(SUMMARY, truth())
    )


def test_markup_and_escapes_in_names_are_shown_as_text() -> None:
    named = [only("SMP-11", 0, meter_point="[red]x[/red]\x1b[2J\n", failed=("[bold]r\x1b",))]
    text = shown(summarise(named, AS_OF))
    assert "[red]x[/red]\ufffd[2J\ufffd" in text
    assert "[bold]r\ufffd" in text
    assert "\x1b" not in text


def test_colour_on_a_terminal_only() -> None:
    assert "\x1b[" in shown(SUMMARY, colour=True)
    plain = io.StringIO()
    tables.print_report(tables.console(plain), SUMMARY)
    assert "\x1b[" not in plain.getvalue()


def test_very_many_sites_show_those_with_something_to_see() -> None:
    many = [only("SMP-11", n, meter_point=f"S{k:04}", equipment=f"E{k}") for k in range(200) for n in range(5)]
    many[503] = only("SMP-11", 3, meter_point="S0100", equipment="E100", by_11=False)
    text = shown(summarise(many, AS_OF))
    assert row(text, "S0100").split()[1] == "···L·"
    assert "199 more sites" in text
    assert "S0099" not in text


def test_empty_ledger_says_so() -> None:
    assert shown(summarise([], AS_OF)) == "The ledger holds no records.\n"


def test_gap_in_the_grid_is_a_blank() -> None:
    held = [r for r in records() if not (r.meter_point == SITES[4] and r.gas_day == FIRST + timedelta(days=2))]
    assert row(shown(summarise(held, AS_OF)), "SMP-05")[12:17] == "·· ··"
