"""`dailyread report` as a program: what it prints, writes and answers, also to bad lines and bad arguments."""

from __future__ import annotations

import os
import pty
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from metering.messages import LedgerMessage
from storage.ledger_sqlite import SqliteLedgerStore
from tests.dailyread.ledgers import lines, records
from tests.test_imports import ROOT

EXAMPLE = str(ROOT / "docs/example.jsonl")
GOOD = lines().splitlines(keepends=True)


def report(*arguments: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "dailyread", "report", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, env=os.environ | environment, timeout=60, check=False)


def with_quantity(quantity: bytes) -> bytes:
    """A good line with this quantity."""
    return re.sub(rb'"quantity_kwh":"[^"]*"', b'"quantity_kwh":"' + quantity + b'"', GOOD[20])


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"".join(GOOD))
    return str(path)


def test_prints_the_tables(ledger: str) -> None:
    done = report(ledger, "--as-of", "2025-11-04T12:00:00Z")
    assert (done.returncode, done.stderr) == (0, b"")
    assert "12 sites, Gas Days Fri 26 Sep 2025 to Tue 4 Nov 2025, as of 4 Nov 2025 12:00 GMT" in done.stdout.decode()
    assert b"\x1b" not in done.stdout


def test_reads_standard_input_and_ignores_empty_lines() -> None:
    done = report("-", stdin=b"\n".join(GOOD))
    assert done.returncode == 0
    assert b"12 sites" in done.stdout


def test_needs_no_plotting_unless_a_page_is_asked_for(ledger: str, tmp_path: Path) -> None:
    for name in ("matplotlib", "jinja2"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('no {name}', name='{name}')")
    assert report(ledger, PYTHONPATH=str(tmp_path)).returncode == 0
    done = report(ledger, "--html", str(tmp_path / "x.html"), PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert b"pip install 'dailyread[report]'" in done.stderr


@pytest.mark.parametrize(
    ("bad", "wrong"),
    [
        (b"{", b"truncated"),
        (b'{"record":"dya"}', b"dya"),
        (b"\xff", b"invalid"),
        (GOOD[0].replace(b'"status":"deemed"', b'"status":"guessed"'), b"guessed"),
        (GOOD[20].replace(b"Z", b""), b"has no offset"),
        (GOOD[20].replace(b'"gas_day":"2025', b'"gas_day":"9999'), b"9999-10-16 is not within 1900 to 2199"),
        (with_quantity(b"1e99999"), b"quantity_kwh: 1.000E+99999 is not a number below 10^15"),
        (b'{"record":"rejected","index":' + b"[" * 5000 + b"]" * 5000 + b"}", b"recursion"),
        (with_quantity(b"NaN"), b"quantity_kwh: NaN is not a number"),
    ],
)
def test_bad_line_is_named_and_spoils_no_other(bad: bytes, wrong: bytes) -> None:
    assert bad not in GOOD
    done = report("-", stdin=b"".join([*GOOD[:100], bad.rstrip(b"\n") + b"\n", *GOOD[100:]]))
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"-: line 101: ")
    assert wrong in done.stderr
    assert done.stdout == report("-", stdin=b"".join(GOOD)).stdout


def test_writes_the_page(ledger: str, tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    done = report(ledger, "--html", str(out))
    assert (done.returncode, done.stderr.decode()) == (0, f"wrote {out}\n")
    assert out.read_text().startswith("<!doctype html>")


def test_some_sites_and_days(ledger: str) -> None:
    done = report(ledger, "--meter-point", "SMP-03", "--meter-point", "SMP-06", "--from", "2025-10-06", "--to", "2025-10-11")
    text = done.stdout.decode()
    assert "2 sites, Gas Days Mon 6 Oct 2025 to Sat 11 Oct 2025, as of 4 Nov 2025 11:47 GMT" in text
    assert "SMP-03      ····PP" in text
    assert "SMP-06      AV····" in text


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (("--meter-point", "SMP-99"), "the ledger has no SMP-99; it has SMP-01, SMP-02, SMP-03, SMP-04, SMP-05 and 7 more"),
        (("--from", "2025-10-07", "--to", "2025-10-06"), "--from 2025-10-07 is after --to 2025-10-06"),
        (("--from", "yesterday"), "'yesterday' is not a date like 2026-01-31"),
        (("--as-of", "2025-11-04T12:00:00"), "has no offset; write Z"),
        (("--html", "/nowhere/x.html"), "--html /nowhere/x.html: No such file or directory"),
    ],
)
def test_bad_argument_is_named(ledger: str, arguments: tuple[str, ...], wrong: str) -> None:
    done = report(ledger, *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert wrong in done.stderr.decode()


MONTH, CHASE = ("--month", "2026-01"), ("--chase", "--as-of", "2026-01-12T08:00:00Z")


@pytest.mark.parametrize("arguments", [MONTH, (*MONTH, "--user", "Alder Gas"), CHASE, (*CHASE, "--user", "Alder Gas")])
def test_statement_and_chase_list_of_facts(arguments: tuple[str, ...], tmp_path: Path) -> None:
    html, csv = tmp_path / "out.html", tmp_path / "out.csv"
    done = report(EXAMPLE, *arguments, "--html", str(html), "--csv", str(csv))
    assert (done.returncode, done.stderr.decode()) == (0, f"wrote {html}\nwrote {csv}\n")
    said = {"--month": "Alder Gas, Jan 2026", "--chase": "Gas Day Sun 11 Jan 2026, as of 12 Jan 2026 08:00 GMT"}[arguments[0]]
    assert said in done.stdout.decode()
    assert html.read_text().startswith("<!doctype html>")
    assert len(csv.read_text().splitlines()) == 2


def test_statement_as_of_an_earlier_instant() -> None:
    text = report(EXAMPLE, *MONTH, "--as-of", "2026-01-10T12:00:00Z").stdout.decode()
    assert "Thu 1 Jan 2026 to Fri 9 Jan 2026" in text
    assert re.search(r"A \(5\.2\.1\) +9$", text, re.MULTILINE)


def test_rates_come_from_the_rules(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[performance]]\nsince = 2026-01-01\nshortfall_gbp = "10"\nconsecutive_gbp = "80"\n')
    text = report(EXAMPLE, *MONTH, "--rules", str(rules)).stdout.decode()
    assert "7.6; £76.00" in text
    assert "1; £80.00" in text


def test_days_as_csv(tmp_path: Path) -> None:
    days, rejected = tmp_path / "days.csv", tmp_path / "rejected.csv"
    done = report(EXAMPLE, "--meter-point", "SMP-0001", "--csv", str(days), "--csv-rejected", str(rejected))
    assert done.stderr.decode() == f"wrote {days}\nwrote {rejected}\n"
    assert "SMP-0001: Days" in done.stdout.decode()
    assert len(days.read_text().splitlines()) == 19
    assert rejected.read_text() == "meter_point,gas_day,at,index,rule,clause,detail,received_at\n"


@pytest.mark.parametrize(
    ("source", "arguments", "wrong"),
    [
        ("ledger", MONTH, "is a ledger, and only facts tell what performance leaves out (5.1, 4.9.2): give the facts"),
        ("facts", ("--month", "2026-02"), "--month 2026-02: no Day of any User in it is due as of 18 Jan 2026 13:00 GMT"),
        ("facts", (*MONTH, "--user", "Elm"), "--user: the source has no Elm; it has Alder Gas"),
        ("facts", (*CHASE, "--user", "Elm"), "--user: the source has no Elm; it has Alder Gas"),
        ("facts", ("--user", "Alder Gas"), "--user: give the month of the statement with --month, or ask for --chase"),
        ("facts", (*MONTH, "--chase"), "--month and --chase are two reports; ask for one"),
        ("facts", (*MONTH, "--from", "2026-01-02", "--csv-rejected", "x"), "--from, --csv-rejected: not with --month"),
        ("facts", (*CHASE, "--meter-point", "SMP-0001"), "--meter-point: not with --chase, only for a report of Days"),
        ("facts", ("--month", "2026-13"), "'2026-13' is not a month like 2026-01"),
        ("facts", ("--rules", "/nowhere/rules.toml"), "/nowhere/rules.toml: No such file or directory"),
        ("facts", ("--csv", "/nowhere/x.csv"), "--csv /nowhere/x.csv: No such file or directory"),
        ("ledger", CHASE, "has no Gas Day 2026-01-11, which ended last; its latest is 2025-11-04; give --as-of"),
    ],
)
def test_what_cannot_be_answered_is_said(ledger: str, source: str, arguments: tuple[str, ...], wrong: str) -> None:
    done = report(ledger if source == "ledger" else EXAMPLE, *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert wrong in done.stderr.decode()


def test_chase_is_as_of_now_unless_told_otherwise() -> None:
    """The example's facts end in January 2026: as of now all is missing, and the report says since when it knows no more."""
    text = " ".join(report(EXAMPLE, "--chase").stdout.decode().split())
    assert "The source ends" in text
    assert "at 18 Jan 2026 13:00 GMT: what came since is not in it." in text


def test_chase_of_a_ledger_says_what_it_does_not_know(ledger: str) -> None:
    done = report(ledger, "--chase", "--as-of", "2025-11-04T09:00:00Z")
    assert done.returncode == 0
    assert "The source is a ledger without its facts" in done.stdout.decode()


def test_missing_file_is_named() -> None:
    done = report("/nowhere/ledger.jsonl")
    assert (done.returncode, done.stderr) == (2, b"dailyread report: /nowhere/ledger.jsonl: No such file or directory\n")


def test_ascii_output_loses_glyphs_but_does_not_fail(ledger: str) -> None:
    done = report(ledger, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0
    assert b"DDDDDDD????" in done.stdout


def test_reads_a_store_while_it_runs(tmp_path: Path) -> None:
    store = SqliteLedgerStore(tmp_path / "ledger.sqlite")
    store.write([LedgerMessage(partition=0, offset=1, record=r) for r in records()])
    done = report(str(tmp_path / "ledger.sqlite"))
    store.close()
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == report("-", stdin=b"".join(GOOD)).stdout


def test_other_database_is_no_ledger(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x)")
    before = path.read_bytes()
    done = report(str(path))
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"is no ledger" in done.stderr
    assert path.read_bytes()[100:] == before[100:]


def test_empty_input() -> None:
    done = report("-")
    assert (done.returncode, done.stdout) == (0, b"The ledger holds no records.\n")


def test_colour_on_a_terminal(ledger: str) -> None:
    keyboard, screen = pty.openpty()
    command = [sys.executable, "-m", "dailyread", "report", ledger, "--meter-point", "SMP-01"]
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120"}
    process = subprocess.Popen(command, stdout=screen, stdin=subprocess.DEVNULL, env=environment)
    os.close(screen)
    seen = b""
    try:
        while data := os.read(keyboard, 65536):
            seen += data
    except OSError:  # Linux says EIO when the other end of a pty has gone
        pass
    os.close(keyboard)
    assert process.wait() == 0
    assert b"\x1b[" in seen
