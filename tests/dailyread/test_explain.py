"""`dailyread explain` as a program: what an analyst reads, what other programs read, and what it answers to wrong questions."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from dailyread.jsonlines import read_facts
from dailyread.report.explanation import print_explanation
from metering.explain import explain as metering_explain
from metering.explanation import Explanation
from metering.facts import AnyFact, CalorificValue
from metering.gasday import to_us
from metering.ledger import CheckReadFound, Day, ReadError
from metering.replay import replay
from metering.rules import Rules
from metering.wire import encode_frame
from stream.embedded import EmbeddedJob, Frame
from stream.processor import RELAY
from tests.test_imports import ROOT

EXAMPLE = ROOT / "docs/example.jsonl"


def explain(*arguments: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "dailyread", "explain", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, env=os.environ | environment, timeout=60, check=False)


def example() -> list[AnyFact]:
    return [fact for fact in read_facts(EXAMPLE.read_bytes().splitlines()) if not isinstance(fact, tuple)]


def test_says_how_an_apportioned_day_came_about() -> None:
    done = explain("SMP-0001", "2026-01-09", "--facts", str(EXAMPLE), COLUMNS="100")
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    for line in (
        "SMP-0001, Gas Day Fri 9 Jan 2026, as of 18 Jan 2026 13:00 GMT",
        "Determined  391.079 m³  4,280.142 kWh  apportioned (M4.4.5(b)), since 17 Jan 2026 05:00 GMT",
        "Closed out  388.000 m³  4,246.444 kWh  assumed (M4.4.2)",
        "Reconciled   −3.079 m³    −33.698 kWh",
        "the closed-out volume of a week before, Fri 2 Jan 2026",
        "21,270 × 1 − 20,882 × 1 = 21,270.000 − 20,882.000 = 388.000 m³",
        "Fri 9 Jan 2026     388.000  assumed          391.079365    391.079",
        "391.079 m³ × 39.4 / 3.6 = 4,280.142 kWh, determined",
        "Standing readings at 9 Jan 2026 05:00 GMT and 10 Jan 2026 05:00 GMT would restore it. (M4.4.5(a))",
    ):
        assert line in text
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text


def test_colours_only_on_a_terminal() -> None:
    """A terminal gets colours, and the same words."""
    main, worker = pty.openpty()
    command = [sys.executable, "-m", "dailyread", "explain", "SMP-0001", "2026-01-09", "--facts", str(EXAMPLE)]
    with subprocess.Popen(command, stdout=worker, env=os.environ | {"COLUMNS": "120", "TERM": "xterm-256color"}) as running:
        os.close(worker)
        shown = b""
        try:
            while chunk := os.read(main, 65536):
                shown += chunk
        except OSError:  # the other side is closed
            pass
        assert running.wait(30) == 0
    os.close(main)
    assert b"\x1b[" in shown
    words = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r\n", "\n")
    assert words == explain("SMP-0001", "2026-01-09", "--facts", str(EXAMPLE), COLUMNS="120").stdout.decode()


@pytest.mark.parametrize("day", ["2026-01-03", "2026-01-09", "2026-01-12", "2026-01-18"])
def test_json_has_the_record_of_replay(day: str) -> None:
    """One object, of the type that `metering/explanation.py` has; its record is that of `replay` as of the same instant."""
    as_of = "2026-01-18T12:00:00+00:00"
    done = explain("SMP-0001", day, "--facts", "-", "--json", "--as-of", as_of, stdin=EXAMPLE.read_bytes())
    assert done.returncode == 0
    found = msgspec.json.decode(done.stdout, type=Explanation)
    ledger = replay(example(), to_us(datetime.fromisoformat(as_of)), Rules())
    assert found.day == ledger[("day", "SMP-0001", day)]
    assert found.as_of == datetime.fromisoformat(as_of)


def test_as_of_an_earlier_instant_it_tells_what_was_known_then() -> None:
    done = explain("SMP-0001", "2026-01-09", "--facts", str(EXAMPLE), "--as-of", "2026-01-12T06:00:00Z")
    text = done.stdout.decode()
    assert "Up to now  388.000 m³  4,246.444 kWh  provisional (M4.4.2)" in text
    assert "apportioned" not in text


def test_settings_of_the_rules_count(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("close_out_days = 2\n")
    arguments = ("SMP-0001", "2026-01-09", "--facts", str(EXAMPLE), "--rules", str(tmp_path / "rules.toml"))
    assert "Its Exit Close-Out was 12 Jan 2026 05:00 GMT" in explain(*arguments).stdout.decode()


def test_check_reads_and_read_errors_are_shown_beside() -> None:
    found = metering_explain("SMP-0001", date(2026, 1, 9), example(), to_us(datetime(2026, 1, 18, tzinfo=UTC)), Rules())
    check = CheckReadFound(
        meter_point="SMP-0001", gas_day=date(2026, 1, 15), from_=date(2026, 1, 1), check_m3=Decimal("10.000"),
        check_kwh=Decimal("100.000"), previous_kwh=Decimal("90.000"), difference_kwh=Decimal("-10.000"), reconciled=False,
    )  # fmt: skip
    error = ReadError(
        meter_point="SMP-0001", user="Alder Gas", gas_day=date(2026, 1, 9), state="refused", due=None, volume_m3=None,
        inspection_cost=None, expert_cost=None, refused="4.8.2",
    )  # fmt: skip
    to = Console(file=StringIO(), width=200)
    print_explanation(to, msgspec.structs.replace(found, records=(check, error)), Rules().calendar().zone)
    text = to.file.getvalue()  # type: ignore[attr-defined]
    assert "by the meter 100.000 kWh, by the Days 90.000, difference −10.000; recorded only" in text
    assert "Daily Read Error of Alder Gas (M4.8): refused by M4.8.2" in text


# --- from a store ---------------------------------------------------------------------------------------------------------


def filled(folder: Path) -> EmbeddedJob:
    """An embedded job that has taken the example, and is still running."""
    job = EmbeddedJob(folder, Rules())
    for fact in example():
        if fact.received_at is None or not (isinstance(fact, CalorificValue) or hasattr(fact, "meter_point")):
            continue
        bare = msgspec.structs.replace(fact, received_at=None)
        broadcast = isinstance(fact, CalorificValue)
        frame = encode_frame([bare], RELAY if broadcast else "gw", fact.received_at if broadcast else None)
        job.take([Frame(fact.received_at, frame)])
    return job


def test_explains_from_the_store_of_a_job_that_is_running(tmp_path: Path) -> None:
    """The ledger that the job keeps has the same record; the store is only read."""
    job = filled(tmp_path)
    try:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("facts-*.rocksdb/*")}
        done = explain("SMP-0001", "2026-01-09", "--store", str(tmp_path), "--json")
        assert done.returncode == 0, done.stderr
        found = msgspec.json.decode(done.stdout, type=Explanation)
        (kept,) = [each for each in job.ledger.records() if isinstance(each, Day) and each.gas_day == date(2026, 1, 9)]
        assert found.day == kept
        assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("facts-*.rocksdb/*")} == before
    finally:
        job.close()


def test_a_store_without_the_point_or_without_facts_gets_a_sentence(tmp_path: Path) -> None:
    done = explain("SMP-0001", "2026-01-09", "--store", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"no facts-*.rocksdb here" in done.stderr
    filled(tmp_path).close()
    done = explain("SMP-0002", "2026-01-09", "--store", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"no fact here is about the meter point SMP-0002" in done.stderr


def test_a_file_that_is_no_store_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "facts-00000.rocksdb").write_bytes(b"nothing of the kind" * 100)
    done = explain("SMP-0001", "2026-01-09", "--store", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"facts-00000.rocksdb: cannot be read" in done.stderr
    assert b"Traceback" not in done.stderr


# --- wrong questions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("SMP-0009", "2026-01-09", "--facts", str(EXAMPLE)), "nothing was received about the meter point SMP-0009"),
        (("SMP-0001", "2025-12-31", "--facts", str(EXAMPLE)), "has the Gas Days 2026-01-01 to 2026-01-18"),
        (("SMP-0001", "2026-02-01", "--facts", str(EXAMPLE)), "2026-02-01 is none of them"),
        (("SMP-0001", "9 Jan", "--facts", str(EXAMPLE)), "'9 Jan' is not a date like 2026-01-31"),
        (("SMP-0001", "2026-01-09", "--facts", "/nowhere/f.jsonl"), "/nowhere/f.jsonl: No such file or directory"),
        (("SMP-0001", "2026-01-09", "--facts", "-"), "there are no facts"),
        (("SMP-0001", "2026-01-09"), "one of the arguments --facts --store --config is required"),
        (("SMP-0001", "2026-01-09", "--facts", "-", "--as-of", "2026-01-09T11:00:00"), "has no offset"),
        (("SMP-0001", "2026-01-09", "--facts", str(EXAMPLE), "--rules", "/nowhere/r.toml"), "/nowhere/r.toml: No such file"),
        (("SMP-0001", "2026-01-09", "--config", "/nowhere/s.toml"), "/nowhere/s.toml"),
    ],
)
def test_a_wrong_question_gets_a_sentence_and_2(arguments: tuple[str, ...], sentence: str) -> None:
    done = explain(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert sentence in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_lines_that_are_no_facts_are_told_and_the_others_count() -> None:
    done = explain("SMP-0001", "2026-01-03", "--facts", "-", stdin=b'{"fact": "tic"}\n' + EXAMPLE.read_bytes())
    assert done.returncode == 2
    assert b"dailyread explain: -: line 1:" in done.stderr
    assert b"SMP-0001, Gas Day Sat 3 Jan 2026" in done.stdout


def more(fact: dict[str, Any], name: str) -> dict[str, Any]:
    return {"gateway": name, "index": [*fact["index"][:-1], name]} if fact["fact"] == "readings" else {}


@pytest.mark.parametrize("name", ["\x1b[31mSMP", "[bold]SMP[/bold]"])
def test_names_from_outside_are_only_text(name: str) -> None:
    """What a terminal or its library would take as a command stays text, or is made harmless."""
    facts: list[Any] = [msgspec.json.decode(line) for line in EXAMPLE.read_bytes().splitlines()]
    lines = b"\n".join(
        msgspec.json.encode(fact | {key: name for key in ("meter", "equipment", "ldz") if key in fact} | more(fact, name))
        for fact in facts
    )
    done = explain("SMP-0001", "2026-01-03", "--facts", "-", stdin=lines)
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout
    text = re.sub(r"\s+", " ", done.stdout.decode())
    assert text.count(name.replace("\x1b", "\N{REPLACEMENT CHARACTER}")) >= 4
    assert f"gateway {name}".replace("\x1b", "\N{REPLACEMENT CHARACTER}") in text
