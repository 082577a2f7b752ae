"""The performance statement: what the terminal, the CSV file and the page say of Days made by hand."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from rich.console import Console

from dailyread.report.csv_files import STATEMENT, statements_csv
from dailyread.report.pages import render_statements
from dailyread.report.statement import Mark, UserMonth, mark_of, user_months
from dailyread.report.statement_tables import statements
from metering.facts import AnyFact, Excluded, Registered
from metering.gasday import GasDays, to_us
from metering.ledger import Day
from metering.performance import statement_lines
from metering.rules import Rules, Standard
from tests.dailyread.outline import HOSTILE, Outline
from tests.metering.test_chase import a_day

CALENDAR = GasDays()
FIRST = date(2026, 3, 1)
AS_OF = datetime(2026, 4, 1, 12, tzinfo=UTC)
MARKS = {  # an item's 31 Days, · Valid by 11:00, F not
    "A": "·" * 31,
    "B": "·" * 10 + "FFFFFF" + "·" * 15,
    "C": "·" * 20 + "FFFFFFF" + "·" * 4,
    "D": "F" + "·" * 30,
}
RATE = Rules(performance=(Standard(shortfall_gbp=Decimal("12.50")),))


def ledger(users: tuple[str, ...] = ("ALDER",), marks: dict[str, str] = MARKS, name: str = "{}") -> list[Day]:
    """Each item with one point of its name, and a Day in February on which it was Valid."""
    days = []
    for item, row in marks.items():
        for n, each in enumerate("·" + row):
            gas_day = FIRST + timedelta(days=n - 1)
            valid_at = None if each == "F" else datetime(gas_day.year, gas_day.month, gas_day.day, 6, tzinfo=UTC) + timedelta(1)
            shared = ("ALDER", "BIRCH") if item == "C" and "BIRCH" in users else users[:1]
            days.append(a_day(name.format(f"P-{item}"), gas_day, valid_at, equipment=name.format(item), users=shared))
    return days


def no_access(point: str, first: int, last: int) -> Excluded:
    days = (date(2026, 3, first), date(2026, 3, last))
    return Excluded(received_at=AS_OF - timedelta(days=3), meter_point=point, reason="no_access", from_=days[0], until=days[1])


def of_march(days: list[Day], facts: list[AnyFact] | None = None, rules: Rules | None = None) -> list[UserMonth]:
    rules = rules or Rules()
    lines = statement_lines(facts or [], days, to_us(AS_OF), rules)
    return user_months((line for line in lines if line.month == "2026-03"), rules)


def shown(months: list[UserMonth], width: int = 120) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(statements(months, AS_OF, CALENDAR))
    return out.getvalue()


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def row(text: str, start: str, nth: int = 0) -> str:
    return [line for line in text.splitlines() if line.startswith(start)][nth]


def test_sums_are_a_b_share_shortfall_and_money() -> None:
    """A: 4 × 31 = 124; 6 + 7 + 1 fail: B = 110. Of B's six the last two are further, of C's seven the last three: they leave A
    of 5.2.2, and 0.975 × 119 - 110 = 6.025."""
    text = shown(of_march(ledger(), rules=RATE))
    assert "ALDER, Mar 2026, Gas Days Sun 1 Mar 2026 to Tue 31 Mar 2026, as of 1 Apr 2026 13:00 BST" in text
    assert row(text, "  Required").split()[-1] == "124"
    assert row(text, "  Provided").split()[-1] == "110"
    assert row(text, "  Share, against 97.5%").endswith("88.7%, not met")
    assert row(text, "  Shortfall").endswith("6.025; £75.31")
    assert row(text, "  Further").endswith("5; £375.00")


def test_no_money_for_the_shortfall_without_a_rate() -> None:
    assert "6.025; no rate is set, so no money is shown" in shown(of_march(ledger()))


def test_grid_and_equipment() -> None:
    text = shown(of_march(ledger(), [no_access("P-B", 11, 13)]))
    assert row(text, "A ").split() == ["A", "·" * 31]
    assert row(text, "B ").split() == ["B", "·" * 10 + "xxxFFF" + "·" * 15]
    assert row(text, "C ").split() == ["C", "·" * 20 + "FFFF£££" + "·" * 4]
    assert row(text, "B ", 1).split() == ["B", "P-B", "28", "25", "89.2%", "3"]
    assert row(text, "C ", 1).split() == ["C", "P-C", "31", "24", "77.4%", "3", "225.00"]


def test_what_is_left_out_has_its_reason_clause_and_days() -> None:
    telemetry = Registered(
        received_at=AS_OF - timedelta(days=90), meter_point="P-D", gas_day=FIRST - timedelta(days=60), users=("ALDER",),
        ldz="EA", annual_quantity_kwh=Decimal(1), equipment="D", telemetry=True,
    )  # fmt: skip
    facts = [telemetry, no_access("P-B", 2, 3), no_access("P-B", 11, 13)]
    text = shown(of_march(ledger(), facts))
    left_out = text[text.index("Left out") :].splitlines()
    assert [" ".join(line.split()) for line in left_out[3:6]] == [
        "B no access to the equipment (5.1.2) Mon 2 Mar 2026 Tue 3 Mar 2026 2",
        "B no access to the equipment (5.1.2) Wed 11 Mar 2026 Fri 13 Mar 2026 3",
        "D telemetry equipment (4.9.2) Sun 1 Mar 2026 Tue 31 Mar 2026 31",
    ]


def test_5_2_5_a_shared_points_further_days_are_divided() -> None:
    months = of_march(ledger(("ALDER", "BIRCH")))
    text = shown(months)
    assert [month.record.user for month in months] == ["ALDER", "BIRCH"]
    assert row(text, "Wed 25 Mar 2026").split() == ["Wed", "25", "Mar", "2026", "C", "5", "P-C", "2", "37.50"]
    birch = months[1]
    assert (birch.record.a, birch.record.b, birch.record.consecutive_gbp) == (31, 24, Decimal("112.50"))
    assert text.startswith("Performance by User")


def test_csv_has_a_row_an_item_with_the_months_sums() -> None:
    months = of_march(ledger(("ALDER", "BIRCH")), [no_access("P-B", 2, 3), no_access("P-B", 11, 13)], RATE)
    rows = table(statements_csv(months, AS_OF))
    assert [each["user"][0] + each["equipment"] for each in rows] == ["AA", "AB", "AC", "AD", "BC"]
    assert list(rows[0]) == list(STATEMENT)
    b = rows[1]
    assert (b["month"], b["as_of"], b["required"], b["met"]) == ("2026-03", "2026-04-01T12:00:00Z", "0.975", "false")
    assert (b["equipment_a"], b["equipment_b"], b["equipment_excluded_days"]) == ("26", "23", "5")
    assert b["equipment_excluded"] == "no_access 2026-03-02/2026-03-03;no_access 2026-03-11/2026-03-13"
    assert sum(int(each["equipment_a"]) for each in rows if each["user"] == "ALDER") == int(b["a"])
    assert sum(int(each["equipment_b"]) for each in rows if each["user"] == "ALDER") == int(b["b"])
    assert table(statements_csv(of_march(ledger()), AS_OF))[0]["shortfall_gbp"] == ""


def test_marks_are_what_the_record_counts() -> None:
    (month,) = of_march(ledger(), [no_access("P-B", 11, 13)])
    marks = [mark_of(line) for item in month.equipment for line in item.lines.values()]
    assert marks.count(Mark.BY_11) == month.record.b
    assert len(marks) - marks.count(Mark.EXCLUDED) == month.record.a
    assert marks.count(Mark.FURTHER) == month.record.consecutive_days == len(month.further)


def test_page_says_the_same() -> None:
    page = render_statements(of_march(ledger(("ALDER", "BIRCH")), [no_access("P-B", 11, 13)], RATE), AS_OF, CALENDAR)
    outline = Outline(page)
    assert len(outline.all("svg")) == 2
    assert "Wed 11 Mar 2026: excluded: no access to the equipment (5.1.2)" in page
    assert "Wed 25 Mar 2026: further: P-C; 5 in a row" in page
    assert "<title>Wed 25 Mar 2026: 3 of 4, 75.0%</title>" in page
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"].removeprefix("#") for link in outline.all("a") if link["href"]} <= set(ids)
    assert {name for name, _ in outline.tags}.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert "#0102" not in page


def test_page_escapes_what_comes_from_outside() -> None:
    hostile = ledger((HOSTILE,), name=HOSTILE + "{}")
    page = render_statements(of_march(hostile), AS_OF, CALENDAR)
    Outline(page)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 8
    assert "\x1b" not in shown(of_march(ledger(("\x1b[31mA",))))


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long = ledger(("U" * 60,), name="m" * 50 + "{}")
    assert max(len(line) for line in shown(of_march(long), width).splitlines()) <= width
