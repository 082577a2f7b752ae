"""`dailyread replay`: facts in, the ledger out, in one fixed form; what is no fact is named, and the rest still counts."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dailyread.cli import main
from dailyread.jsonlines import in_order, write_fact, write_record
from metering.facts import PollFailed, ReferenceIndex
from metering.ledger import Tolerance
from tests.metering.domain import Site, gas_day, local

KEYS = {
    "day": (
        "record", "meter_point", "gas_day", "users", "equipment", "status", "start_index", "end_index", "volume_m3",
        "quantity_kwh", "closed_out", "determined_status", "determined_m3", "determined_kwh", "since", "valid", "valid_at",
        "by_11", "ratchet_day", "failed", "ran",
    ),
    "reconciliation": ("record", "meter_point", "gas_day", "kind", "volume_m3", "quantity_kwh", "since"),
    "rejected": ("record", "meter_point", "gas_day", "at", "index", "rule", "clause", "detail", "received_at"),
    "tolerance": ("record", "meter_point", "gas_day", "check", "a", "b", "deviation", "within"),
    "performance": (
        "record", "user", "month", "a", "b", "ratio", "required", "met", "shortfall", "shortfall_gbp", "consecutive_days",
        "consecutive_gbp",
    ),
}  # fmt: skip

REGISTERED = {
    "fact": "registered", "received_at": "2025-12-01T12:00:00Z", "meter_point": "MP", "gas_day": "2026-01-01", "users": ["U"],
    "ldz": "EA", "annual_quantity_kwh": "365000", "equipment": "E",
}  # fmt: skip
FITTED = {
    "fact": "meter_fitted", "received_at": "2025-12-01T12:00:00Z", "meter_point": "MP", "meter": "M",
    "at": "2026-01-01T05:00:00Z", "index": 0, "digits": 8, "m3_per_tick": "0.1", "conversion_factor": None,
    "q_max_m3_per_h": "1000",
}  # fmt: skip
READINGS: dict[str, Any] = {
    "fact": "readings", "received_at": "2026-01-02T06:00:00Z", "meter_point": "MP", "meter": "M", "gas_day": "2026-01-01",
    "at": ["2026-01-01T05:00:00Z", "2026-01-02T05:00:00Z"], "index": [0, 1000],
}  # fmt: skip
VALUE = {
    "fact": "calorific_value", "received_at": "2026-01-02T13:00:00Z", "ldz": "EA", "gas_day": "2026-01-01", "mj_per_m3": "36",
}  # fmt: skip
TICK = {"fact": "tick", "received_at": "2026-01-02T06:00:00Z", "now": "2026-01-02T06:00:00Z"}


def lines(*facts: Any) -> bytes:
    """Facts, dicts and raw text as a file."""
    texts = [fact if isinstance(fact, bytes) else json.dumps(fact).encode() for fact in facts]
    return b"".join(text + b"\n" for text in texts)


def troubled() -> bytes:
    """Two points, with all kinds of records."""
    site = Site("2026-01-01", values=8)
    site.days("2026-01-01", [0, 100, 210, 330, 430, 500, 560, 620])
    site.read("2026-01-12", [1120, 1180])
    site.read("2026-01-13", [1185, 1240], reference_index=ReferenceIndex(start=0, end=70), status=("tamper",))
    site.read("2026-01-14", ["x", 1300], received=local("2026-01-15 06:00") + timedelta(milliseconds=250))
    failed = PollFailed(
        meter_point="MP", meter="M", gas_day=gas_day("2026-01-08"), reason="silent", attempts=3,
        received_at=local("2026-01-09 11:00"),
    )  # fmt: skip
    site.facts.append(failed)
    site.tick("2026-01-21 12:00")
    text = b"".join(write_fact(fact) + b"\n" for fact in site.facts)
    other = text.replace(b'"MP"', '"Münster 7"'.encode())
    return text + other


def run(tmp_path: Path, text: bytes, *arguments: str) -> tuple[int, bytes, str]:
    """Exit code, standard output and standard error of `dailyread replay FILE ...`, in a process of its own."""
    path = tmp_path / "facts.jsonl"
    path.write_bytes(text)
    done = subprocess.run(
        [sys.executable, "-m", "dailyread", "replay", str(path), *arguments], capture_output=True, timeout=120, check=False
    )
    return done.returncode, done.stdout, done.stderr.decode()


class Captured(io.TextIOWrapper):
    """A standard output whose bytes can be looked at."""

    def __init__(self) -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding="utf-8")


@pytest.fixture
def replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The same as `run`, in this process: quick, for tables of cases."""

    def call(text: bytes, *arguments: str) -> tuple[int, list[dict[str, Any]], list[str]]:
        path, output = tmp_path / "facts.jsonl", Captured()
        path.write_bytes(text)
        monkeypatch.setattr(sys, "stdout", output)
        code = main(["replay", str(path), *arguments])
        found = [json.loads(line) for line in output.bytes.getvalue().splitlines()]
        errors = capsys.readouterr().err.replace(str(path), "FILE").splitlines()
        return code, found, errors

    return call


# --- the form of the output ---------------------------------------------------------------------------------------------------


def test_the_ledger_of_one_day_byte_for_byte(tmp_path: Path) -> None:
    code, output, errors = run(tmp_path, lines(REGISTERED, FITTED, READINGS, VALUE), "--as-of", "2026-01-07T05:00:00Z")
    assert (code, errors) == (0, "")
    assert output.splitlines()[0] == (
        b'{"record":"day","meter_point":"MP","gas_day":"2026-01-01","users":["U"],"equipment":"E","status":"actual",'
        b'"start_index":0,"end_index":1000,"volume_m3":"100.000","quantity_kwh":"1000.000","closed_out":true,'
        b'"determined_status":null,"determined_m3":null,"determined_kwh":null,"since":null,"valid":true,'
        b'"valid_at":"2026-01-02T06:00:00Z","by_11":true,"ratchet_day":true,"failed":[],'
        b'"ran":["malformed","from_the_future","clock_invalid","conflicting_reading","boundary_mismatch","negative_advance",'
        b'"excess_flow","unusual_volume","stuck_register","equipment_status"]}'
    )
    *days, performance = output.splitlines()
    assert [json.loads(line)["gas_day"] for line in days] == [f"2026-01-{n:02}" for n in range(1, 8)]
    assert performance == (
        b'{"record":"performance","user":"U","month":"2026-01","a":5,"b":1,"ratio":"0.200000","required":"0.975","met":false,'
        b'"shortfall":"3.875","shortfall_gbp":null,"consecutive_days":0,"consecutive_gbp":"0.00"}'
    )
    assert output.endswith(b"}\n")


def test_every_kind_of_record_has_its_keys_in_order_and_nulls_are_written(replay: Any) -> None:
    code, records, _ = replay(troubled())
    assert code == 0
    assert {record["record"] for record in records} == set(KEYS)
    assert all(tuple(record) == KEYS[record["record"]] for record in records)


def test_no_spaces_and_text_as_it_is(tmp_path: Path) -> None:
    output = run(tmp_path, troubled())[1].decode()
    assert '"meter_point":"Münster 7"' in output
    for line in output.splitlines():
        record = json.loads(line)
        assert line == json.dumps(record, separators=(",", ":"), ensure_ascii=False)


def test_the_records_are_sorted_by_record_point_day_kind_and_then_the_line(tmp_path: Path) -> None:
    output = run(tmp_path, troubled())[1].decode().splitlines()
    keys = []
    for line in output:
        record = json.loads(line)
        fields = (record.get(name, "") for name in ("record", "meter_point", "gas_day", "user", "month", "kind"))
        keys.append((*fields, line.encode()))
    assert keys == sorted(keys)
    assert len(set(output)) == len(output)


def test_a_tolerance_of_a_period_has_no_gas_day_and_comes_before_those_of_days() -> None:
    zero = Decimal("0.000")
    of_day = Tolerance(
        meter_point="MP", gas_day=gas_day("2026-01-01"), check="interval_sum", a=zero, b=zero, deviation=None, within=True
    )
    of_period = Tolerance(
        meter_point="MP", from_=gas_day("2026-01-01"), until=gas_day("2026-12-31"), check="check_read", a=zero, b=zero,
        deviation=None, within=True,
    )  # fmt: skip
    assert list(in_order([of_day, of_period])) == [write_record(of_period), write_record(of_day)]


def test_instants_are_utc_with_z_and_a_fraction_only_where_there_is_one(replay: Any) -> None:
    site = Site("2026-06-01", values=None)
    site.read("2026-06-01", [0, 10], received=local("2026-06-02 06:00"))
    site.read("2026-06-02", [10, 30], received=local("2026-06-03 06:00") + timedelta(milliseconds=250))
    _, records, _ = replay(b"".join(write_fact(fact) + b"\n" for fact in site.facts))
    valid_at = [record["valid_at"] for record in records if record.get("valid")]
    assert valid_at == ["2026-06-02T05:00:00Z", "2026-06-03T05:00:00.250000Z"]


def test_numbers_that_must_be_exact_are_strings(replay: Any) -> None:
    _, records, _ = replay(troubled())
    for record in records:
        compared = ("a", "b") if record["record"] == "tolerance" else ()
        for key in ("volume_m3", "quantity_kwh", "determined_m3", "determined_kwh", "shortfall", *compared):
            value = record.get(key)
            assert value is None or (isinstance(value, str) and len(value.split(".")[1]) == 3)
        if record["record"] == "tolerance":
            assert len(record["deviation"].split(".")[1]) == 6


def test_a_reading_that_is_wrong_in_itself_is_a_fact(replay: Any) -> None:
    wrong = ["x", 1.5, -7, True, 10**9, 10**30, [1, 2], {"a": None}, ""]
    instants = [f"2026-01-01T{5 + n:02}:00:00Z" for n in range(len(wrong))]
    code, records, errors = replay(lines(REGISTERED, FITTED, READINGS | {"at": instants, "index": wrong}))
    found = [record for record in records if record["record"] == "rejected"]
    assert (code, errors) == (0, [])
    assert {record["rule"] for record in found} == {"malformed"}
    by_instant = {record["at"]: record["index"] for record in found}
    assert [by_instant[at] for at in instants] == [each if each != 10**30 else str(each) for each in wrong]


# --- as of --------------------------------------------------------------------------------------------------------------------


def test_as_of_is_the_latest_received_at_unless_given(replay: Any) -> None:
    tick = {"fact": "tick", "received_at": "2026-01-09T12:00:00Z", "now": "2026-01-09T11:59:00Z"}
    for facts, last in [([REGISTERED, FITTED, READINGS], "2026-01-02"), ([REGISTERED, tick], "2026-01-09")]:
        assert max(record.get("gas_day", "") for record in replay(lines(*facts))[1]) == last


@pytest.mark.parametrize(
    ("as_of", "valid"),
    [("2026-01-02T05:59:59.999999Z", False), ("2026-01-02T06:00:00Z", True), ("2026-01-02T07:00:00+01:00", True)],
)
def test_as_of_an_instant_what_was_received_by_then_counts(replay: Any, as_of: str, valid: bool) -> None:
    code, records, _ = replay(lines(REGISTERED, FITTED, READINGS), "--as-of", as_of)
    assert (code, records[0]["valid"]) == (0, valid)


def test_as_of_before_everything_is_an_empty_ledger(replay: Any) -> None:
    assert replay(lines(REGISTERED, FITTED, READINGS), "--as-of", "2020-01-01T00:00:00Z") == (0, [], [])


@pytest.mark.parametrize("as_of", ["2026-01-02T05:00:00", "2026-01-02", "yesterday", ""])
def test_an_as_of_that_is_no_instant_is_refused(replay: Any, capsys: pytest.CaptureFixture[str], as_of: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        replay(lines(REGISTERED), "--as-of", as_of)
    assert stopped.value.code == 2
    assert "--as-of" in capsys.readouterr().err


# --- shuffled -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_shuffled_the_output_is_the_same_byte_for_byte(tmp_path: Path, seed: int) -> None:
    as_of = [] if seed % 2 else ["--as-of", "2026-01-16T12:00:00Z"]
    assert run(tmp_path, troubled(), "--shuffle", str(seed), *as_of) == run(tmp_path, troubled(), *as_of)


def test_the_order_of_the_lines_and_copies_do_not_matter(tmp_path: Path) -> None:
    text = troubled().splitlines()
    backwards = b"\n".join([*reversed(text), *text[::3]])
    assert run(tmp_path, backwards) == run(tmp_path, troubled())


# --- rules --------------------------------------------------------------------------------------------------------------------


def test_rules_from_a_file(replay: Any, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('close_out_days = 0\n[[validation]]\nsince = 2026-01-01\naction = {clock_invalid = "flag"}\n')
    facts = lines(REGISTERED, FITTED, READINGS | {"clock_offset_s": 900})
    assert [record["record"] for record in replay(facts)[1]] == ["day", "day", "rejected", "rejected"]
    code, records, _ = replay(facts, "--rules", str(rules), "--as-of", "2026-01-02T06:00:00Z")
    assert (code, [record["record"] for record in records]) == (0, ["day", "day"])
    assert (records[0]["status"], records[0]["failed"]) == ("deemed", ["clock_invalid"])
    assert records[0]["determined_status"] == "restored"


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("close_out_day = 3", "unknown field `close_out_day`"),
        ("zone = 7", "Expected `str`, got `int` - at `$.zone`"),
        ("zone = 'Mars'", "zone: 'Mars' is no time zone such as Europe/London"),
        ("[[validation]]\naction.no_such = 'flag'", "action.no_such: no such rule"),
        ("half a line", "Expected '='"),
    ],
)
def test_rules_that_are_wrong_are_named_and_nothing_is_printed(replay: Any, tmp_path: Path, toml: str, said: str) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(toml)
    code, records, errors = replay(lines(REGISTERED), "--rules", str(rules))
    assert (code, records, len(errors)) == (2, [], 1)
    assert errors[0].startswith(f"dailyread replay: {rules}: ")
    assert said in errors[0]


def test_files_that_are_not_there_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    there, missing = tmp_path / "there.toml", tmp_path / "missing"
    there.write_text("")
    assert main(["replay", str(missing), "--rules", str(there)]) == 2
    assert capsys.readouterr().err == f"dailyread replay: {missing}: No such file or directory\n"
    assert main(["replay", str(there), "--rules", str(missing)]) == 2
    assert capsys.readouterr().err == f"dailyread replay: {missing}: No such file or directory\n"


# --- lines that are no facts --------------------------------------------------------------------------------------------------

BROKEN: list[tuple[Any, str]] = [
    (b"not json", "JSON is malformed"),
    (b'{"fact":"tick"', "Input data was truncated"),
    (b"[1, 2]", "found [1,2]; allowed: an object with `fact`"),
    (b"\xff\xfe{}", "JSON is malformed"),
    (lines(VALUE)[:-1].replace(b'"EA"', b'"E\xff"'), "can't decode byte 0xff"),
    (lines(VALUE)[:-1].replace(b'"EA"', rb'"E\ud800"'), "unexpected end of escaped utf-16 surrogate"),
    (lines(READINGS)[:-1].replace(b"1000]", b"[" * 20_000 + b"]" * 20_001), "recursion"),
    ({"received_at": "2026-01-02T06:00:00Z"}, "fact: missing; allowed: `adjustment_agreed`, `alarm`, "),
    (READINGS | {"fact": "reeding"}, 'fact: found "reeding"; did you mean `readings`?'),
    (READINGS | {"colour": "red"}, "colour: no field of readings; allowed: `at`, "),
    (READINGS | {"reference_index": {"start": 1, "end": 2, "middle": 3}}, "reference_index.middle: no field of"),
    ({key: READINGS[key] for key in READINGS if key != "received_at"}, "received_at: missing"),
    ({key: READINGS[key] for key in READINGS if key != "meter"}, "meter: missing; allowed: text, not empty, at most 64 long"),
    ({key: READINGS[key] for key in READINGS if key != "at"}, "at: give either `at` or `first_at`"),
    (READINGS | {"index": 7}, "index: found 7; allowed: a list of"),
    (READINGS | {"index": [1]}, "at: 2 instants for 1 entries of `index`"),
    (READINGS | {"meter_point": 7}, "meter_point: found 7; allowed: text"),
    (READINGS | {"meter_point": ""}, 'meter_point: found ""; allowed: text, not empty'),
    (READINGS | {"gas_day": "2026-02-30"}, 'gas_day: found "2026-02-30"; allowed: a date, such as'),
    (READINGS | {"gas_day": "1969-12-31"}, "gas_day: 1969-12-31 is not between"),
    (READINGS | {"received_at": "2026-01-02T06:00:00"}, 'received_at: found "2026-01-02T06:00:00"; allowed: an instant'),
    (READINGS | {"received_at": "2026-01-02 6 o'clock"}, "6 o'clock\"; allowed: an instant, such as"),
    (READINGS | {"received_at": 1767333600}, "received_at: found 1767333600; allowed: an instant"),
    (READINGS | {"received_at": "1969-12-31T23:00:00Z"}, "received_at: 1969-12-31T23:00:00+00:00 is not in the years"),
    (READINGS | {"at": ["2026-01-01T05:00:00Z", "2026-01-02T05:00:00"]}, 'at[1]: found "2026-01-02T05:00:00"; allowed: '),
    (READINGS | {"at": ["0001-01-01T00:00:00+14:00", "2026-01-02T05:00:00Z"]}, "at: 0001-01-01T00:00:00+14:00 is not in the"),
    (READINGS | {"unconverted": [1]}, "unconverted: 1 entries for 2 of `index`"),
    (READINGS | {"interval_m3": ["1", "2"]}, "interval_m3: 2 entries; one fewer than `index` has (2)"),
    (READINGS | {"interval_m3": ["NaN"]}, "interval_m3: NaN is not a number"),
    (READINGS | {"interval_m3": ["1E+999999"]}, "interval_m3: 1E+999999 is not between"),
    (READINGS | {"status": ["sleepy"]}, 'status[0]: found "sleepy"; allowed: "clock_invalid", "tamper", '),
    (READINGS | {"clock_offset_s": "1"}, 'clock_offset_s: found "1"; allowed: a number'),
    (REGISTERED | {"users": []}, "users: found []; allowed: a list of text, not empty"),
    (REGISTERED | {"annual_quantity_kwh": "-1"}, "annual_quantity_kwh: -1 is not a number of 0 or more"),
    (REGISTERED | {"annual_quantity_kwh": "lots"}, 'annual_quantity_kwh: found "lots"; allowed: a decimal number'),
    (REGISTERED | {"annual_quantity_kwh": "1E+9999999"}, "annual_quantity_kwh: 1E+9999999 is not between"),
    (FITTED | {"digits": 0}, "digits: found 0; allowed: a whole number, 1 or more, at most 18"),
    (FITTED | {"index": 10**8}, "index: 100000000 has more than 8 digits"),
    (FITTED | {"q_max_m3_per_h": "0"}, "q_max_m3_per_h: 0 is not a number above 0"),
    (VALUE | {"mj_per_m3": "-39.5"}, "mj_per_m3: -39.5 is not a number above 0"),
    (VALUE | {"mj_per_m3": None}, "mj_per_m3: found null; allowed: a decimal number"),
    (TICK | {"now": "2026-01-02T06:00:01Z"}, "now: 2026-01-02T06:00:01+00:00 is after"),
]  # fmt: skip


@pytest.mark.parametrize(("broken", "said"), BROKEN, ids=[said[:40] for _, said in BROKEN])
def test_a_line_that_is_no_fact_is_named_and_the_others_still_count(replay: Any, broken: Any, said: str) -> None:
    whole = replay(lines(REGISTERED, FITTED, READINGS, VALUE))
    code, records, errors = replay(lines(REGISTERED, b"", FITTED, broken, READINGS, VALUE))
    assert (code, records) == (2, whole[1])
    assert len(errors) == 1
    assert errors[0].startswith("dailyread replay: FILE: line 4: ")
    assert said in errors[0]


def test_every_wrong_line_is_named(replay: Any) -> None:
    code, records, errors = replay(lines(b"x", REGISTERED, b"y", b"z"))
    assert (code, len(records)) == (2, 0)
    assert [error.split(": ")[2] for error in errors] == ["line 1", "line 3", "line 4"]


@pytest.mark.parametrize("text", [b"", b"\n\n", b"  \n"])
def test_no_facts_no_ledger(replay: Any, text: bytes) -> None:
    assert replay(text) == (0, [], [])


def test_a_last_line_without_an_end_and_lines_of_windows_count(replay: Any) -> None:
    text = lines(REGISTERED, FITTED, READINGS)
    expected = replay(text)
    assert replay(text.rstrip(b"\n")) == expected
    assert replay(text.replace(b"\n", b"\r\n")) == expected


# --- pipes --------------------------------------------------------------------------------------------------------------------


def test_standard_input(tmp_path: Path) -> None:
    text = lines(REGISTERED, FITTED, b"?", READINGS)
    done = subprocess.run(
        [sys.executable, "-m", "dailyread", "replay", "-"], input=text, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == run(tmp_path, text)[:2]
    assert done.stderr == b"dailyread replay: -: line 3: JSON is malformed: invalid character (byte 0)\n"


def test_a_reader_that_goes_away_gets_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    tick = {"fact": "tick", "received_at": "2029-01-02T06:00:00Z", "now": "2029-01-02T06:00:00Z"}
    path.write_bytes(lines(REGISTERED, tick))  # some 1,100 Days: more than a pipe holds
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "dailyread", "replay", str(path)], stdout=write_end, stderr=subprocess.PIPE
    )
    os.close(write_end)
    first = os.read(read_end, 100)
    os.close(read_end)
    _, errors = process.communicate(timeout=60)
    assert first.startswith(b'{"record":"day"')
    assert (process.returncode, errors) == (1, b"")


def test_help_says_what_a_newcomer_needs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["replay", "--help"])
    said = capsys.readouterr().out
    assert stopped.value.code == 0
    assert all(word in said for word in ("FACTS.jsonl", "--as-of", "--rules", "--shuffle", "standard input"))
