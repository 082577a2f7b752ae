"""The HTML page: whole, escaped, self-contained, and in a real browser without complaint, request or overflow."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from dailyread.report.compare import compare
from dailyread.report.html import PLOTS_MAX, render, write_page
from dailyread.report.pages import render_chase, render_statements
from dailyread.report.palette import PALETTE
from dailyread.report.summary import summarise
from tests.dailyread import chromium
from tests.dailyread.ledgers import AS_OF, FIRST, SITES, only, records, truth
from tests.dailyread.outline import HOSTILE, Outline
from tests.dailyread.test_report_chase import TOLD, found
from tests.dailyread.test_report_statement import AS_OF as REPORTED
from tests.dailyread.test_report_statement import CALENDAR, RATE, ledger, no_access, of_march

SUMMARY = summarise(records(), AS_OF)
# Figures that are wider than their place, and words of plots that reach out of what can be scrolled to.
CUT = """[
  ...[...document.querySelectorAll('.value')].filter(e => e.scrollWidth > e.clientWidth),
  ...[...document.querySelectorAll('.drawing text')].filter(e =>
    e.getBoundingClientRect().left + .5 < e.closest('.scroll').getBoundingClientRect().left - e.closest('.scroll').scrollLeft),
].map(e => e.textContent.trim())"""


@pytest.fixture(scope="module")
def page() -> str:
    return render(SUMMARY, truth())


def test_page_is_well_formed_and_ids_are_unique(page: str) -> None:
    outline = Outline(page)
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in outline.all("a"):
        assert link["href"] is not None
        assert link["href"].removeprefix("#") in ids


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    assert not re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?(?!#)[a-z]*:?//', page)
    assert {name for name, _ in Outline(page).tags}.isdisjoint({"script", "link", "img", "iframe", "object"})


def test_drawings_tables_and_headers_have_names(page: str) -> None:
    outline = Outline(page)
    assert len(outline.all("svg")) == len(SITES) + 1
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in outline.all("svg"))
    assert all("scope" in header for header in outline.all("th"))
    assert all(area["aria-label"] for area in outline.all("div") if area.get("role") == "region")


def test_page_is_small_and_the_same_each_time(page: str) -> None:
    assert len(page.encode()) < 2_000_000
    assert render(SUMMARY, truth()) == page


def test_no_colour_mark_is_left_over(page: str) -> None:
    assert "#0102" not in page


def test_volumes_are_in_tooltips_exactly(page: str) -> None:
    assert "Wed 8 Oct 2025: assumed, 88.100 m³; restored, 108.900 m³; failed: boundary_mismatch" in page
    assert page.count("<title>Fri 26 Sep 2025: deemed, not known m³</title>") == 1


def test_everything_from_outside_is_escaped() -> None:
    hostile = [
        only("SMP-11", 0, meter_point=HOSTILE, users=(HOSTILE,), failed=(HOSTILE,)),
        *(r for r in records() if r.meter_point == "SMP-11"),
    ]
    summary = summarise(hostile, AS_OF)
    text = render(summary, {(HOSTILE, FIRST): 7})
    assert "<script" not in text
    assert "\x1b" not in text
    assert text.count("&lt;script&gt;") >= 8
    Outline(text)


def test_comparison_only_with_the_truth(page: str) -> None:
    assert "agrees with the truth: 450 of 468 Days to the litre; 18 are estimated" in page
    without = render(SUMMARY)
    assert 'id="truth"' not in without
    assert "truth" not in Outline(without).all("svg")[1].values()
    wrong = render(SUMMARY, truth() | {("SMP-11", FIRST): 1})
    assert "disagrees with the truth on 1 of 468 Days" in wrong
    assert not all(row.agrees for row in compare(SUMMARY, truth() | {("SMP-11", FIRST): 1}))


def test_empty_ledger_has_a_page() -> None:
    text = render(summarise([], AS_OF))
    Outline(text)
    assert "holds no records" in text


def test_site_with_rejections_only_has_a_page() -> None:
    text = render(summarise([r for r in records() if type(r).__name__ == "Rejected"], AS_OF))
    Outline(text)
    assert "no record" in text


def test_plots_are_of_the_sites_with_most_to_see() -> None:
    many = [only("SMP-11", 0, meter_point=f"S{k:03}") for k in range(PLOTS_MAX)]
    many.append(only("SMP-11", 0, meter_point="T-late", by_11=False))
    text = render(summarise(many, AS_OF))
    assert text.count("<figure ") == PLOTS_MAX
    assert "<h3>T-late</h3>" in text
    assert f"{PLOTS_MAX} of {PLOTS_MAX + 1} sites" in text


def test_page_replaces_the_old_one_whole(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    out.write_text("old")
    write_page(out, SUMMARY)
    assert out.read_text().startswith("<!doctype html>")
    assert os.listdir(tmp_path) == ["page.html"]
    with pytest.raises(FileNotFoundError):
        write_page(tmp_path / "nowhere" / "page.html", SUMMARY)


def _luminance(colour: str) -> float:
    channels = (int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_contrasts_with_its_ground(scheme: int) -> None:
    """At least 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    pairs = [(role, "card") for role in ("ink", "muted", "link", "good", "bad")]
    pairs += [(role, role.replace("-fg", "-bg")) for role in PALETTE if role.endswith("-fg")]
    for text, ground in pairs:
        light, dark = sorted((_luminance(PALETTE[role][scheme]) for role in (text, ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    if chromium.PROGRAM is None:
        pytest.fail("chromium is not installed: apt-get install chromium")
    with chromium.browser(tmp_path_factory.mktemp("profile")) as shown:
        yield shown


def pages() -> dict[str, str]:
    """One of each kind of page."""
    months = of_march(ledger(("ALDER", "BIRCH")), [no_access("P-B", 11, 13)], RATE)
    one = summarise([r for r in records() if r.meter_point == "SMP-06"], AS_OF)
    return {
        "days": render(SUMMARY, truth()),
        "point": render(one),
        "statements": render_statements(months, REPORTED, CALENDAR),
        "chase": render_chase(found(), CALENDAR, TOLD),
    }


@pytest.fixture(scope="module", params=["days", "point", "statements", "chase"])
def any_page(request: pytest.FixtureRequest) -> str:
    return pages()[request.param]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1360, 390])
def test_page_in_a_browser(browser: chromium.Page, any_page: str, tmp_path: Path, width: int, dark: bool) -> None:
    file = tmp_path / "page.html"
    file.write_text(any_page, encoding="utf-8")
    browser.open(file, width, dark=dark)
    assert browser.complaints() == []
    assert browser.requests() == [file.as_uri()]
    assert browser.value("document.documentElement.scrollWidth") == width  # only tables and plots scroll sideways
    assert browser.value("getComputedStyle(document.body.parentElement).backgroundColor") == (
        "rgb(18, 22, 28)" if dark else "rgb(244, 246, 248)"
    )
    assert browser.value("[...document.querySelectorAll('.drawing path')].every(p => p.getBBox())")
    assert browser.value(CUT) == []
    picture = tmp_path / "page.png"
    browser.screenshot(picture)
    assert struct.unpack(">I", picture.read_bytes()[16:20])[0] == width


def test_cut_text_would_be_noticed(browser: chromium.Page, tmp_path: Path) -> None:
    file = tmp_path / "cut.html"
    file.write_text('<p class="value" style="width:2em;overflow:hidden;white-space:nowrap">1,234,567</p>', encoding="utf-8")
    browser.open(file, 400)
    assert browser.value(CUT) == ["1,234,567"]


def test_browser_would_notice_a_request_and_an_error(browser: chromium.Page, tmp_path: Path) -> None:
    """The checks above can fail: a page with a picture from elsewhere and a faulty script fails them."""
    file = tmp_path / "bad.html"
    file.write_text('<img src="http://127.0.0.1:9/x.png"><script>nothing.at.all</script>', encoding="utf-8")
    browser.open(file, 400)
    assert len(browser.requests()) == 2
    assert "nothing is not defined" in "".join(browser.complaints())


def test_page_prints(browser: chromium.Page, page: str, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(page, encoding="utf-8")
    browser.open(file, 1360, dark=True)
    browser.pdf(tmp_path / "page.pdf")
    pdf = (tmp_path / "page.pdf").read_bytes()
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf)) <= 12
