"""The page about reports tells every column of every CSV file, in its order, and every glyph."""

from __future__ import annotations

import re

import pytest

from dailyread.report.csv_files import CHASE, DAYS, REJECTED, STATEMENT
from dailyread.report.statement import Mark
from tests.test_imports import ROOT

PAGE = (ROOT / "docs/reports.md").read_text()


@pytest.mark.parametrize(
    ("heading", "columns"),
    [("Days", DAYS), ("Rejected readings", REJECTED), ("Statements", STATEMENT), ("Chase list", CHASE)],
)
def test_every_column_is_told_in_its_order(heading: str, columns: tuple[str, ...]) -> None:
    section = PAGE.split(f"\n### {heading}\n")[1].split("\n#")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert re.findall(r"`(\w+)`", "".join(cells)) == list(columns)


def test_every_glyph_of_a_statement_is_told() -> None:
    assert re.findall(r"^\| `(.)` \|", PAGE, re.M) == [mark.glyph for mark in Mark]
