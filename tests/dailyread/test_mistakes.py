"""A line that is no fact: the sentence names the line, the field, what was found, and what is allowed; the others count."""

import json
from typing import Any

import pytest

from dailyread.jsonlines import BadLine, read_facts, write_fact
from metering.facts import FACT_TYPES

AT, BEFORE = "2026-01-02T06:00:00Z", "2026-01-01T06:00:00Z"
NOT_EMPTY = "text, not empty, at most 64 long"
NUMBER = 'a decimal number, such as "11.628"'
COUNT = "a whole number, 0 or more, below 4611686018427387904"


def told(fact: str, **fields: Any) -> dict[str, Any]:
    """A fact of that kind; `from_` stands for `from`."""
    named = {name.rstrip("_"): value for name, value in fields.items()}
    return {"fact": fact, "received_at": AT, "meter_point": "MP", **named}


def without(fact: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in fact.items() if name != field}


REMOVED = told("meter_removed", meter="M", at=AT, index=1)
CHECK_READ = told("check_read", meter="M", at=AT, index=1, equipment_index=2)
ADJUSTED = told("meter_error_adjusted", meter="M", at=AT, index=1)
BYPASS = told("bypass_used", at=BEFORE, until=AT, estimated_m3="5")
FAULT = told("equipment_fault", part="capture", from_=BEFORE, until=AT)
INSPECTION = told(
    "inspection", gas_day="2026-01-01", at=AT, equipment_works=True, reed_switch_works=True, meter_works=True,
    volume_estimate_m3="5",
)  # fmt: skip
NOTICE = told("read_error_notice", user="U", gas_day="2026-01-01", volume_estimate_m3="5")
ACCEPTED = told("estimate_accepted", user="U", gas_day="2026-01-01")
REJECTION = told("rejection_notice", user="U", gas_day="2026-01-01")
EXPERT = told("expert_determination", gas_day="2026-01-01", equipment_works=True, volume_m3="5")
AGREED = told("adjustment_agreed", gas_day="2026-01-01", volume_m3="5")
WITHDRAWN = told("withdrawn", meter="M", gas_day="2026-01-01", reason="typed wrong", by="K. Ash")
EXCLUDED = told("excluded", reason="no_access", from_="2026-01-01", until="2026-01-02")
PROVIDED = told("provided", user="U", gas_day="2026-01-01", version=1)
INTERVAL = told("interval_set", interval_s=3600, confirmed=True)
ALARM = told("alarm", meter="M", at=AT, kind="tamper", detail="lid")
GOOD = [
    REMOVED, CHECK_READ, ADJUSTED, BYPASS, FAULT, INSPECTION, NOTICE, ACCEPTED, REJECTION, EXPERT, AGREED, WITHDRAWN, EXCLUDED,
    PROVIDED, INTERVAL, ALARM,
]  # fmt: skip

BROKEN: list[tuple[dict[str, Any], str]] = [
    (without(REMOVED, "index"), f"index: missing; allowed: {COUNT}"),
    (REMOVED | {"at": "2226-01-02T06:00:00Z"}, "at: 2226-01-02T06:00:00+00:00 is not in the years 1970 to 2199"),
    (
        REMOVED | {"digits": 8},
        "digits: no field of meter_removed; allowed: `at`, `index`, `meter`, `meter_point`, `received_at`",
    ),
    (CHECK_READ | {"index": -1}, f"index: found -1; allowed: {COUNT}"),
    (CHECK_READ | {"equipment_index": "7"}, f'equipment_index: found "7"; allowed: {COUNT}'),
    (CHECK_READ | {"index": 2**62}, f"index: found 4611686018427387904; allowed: {COUNT}"),
    (ADJUSTED | {"at": "noon"}, 'at: found "noon"; allowed: an instant, such as 2026-01-31T05:00:00Z, RFC 3339 with an offset'),
    (BYPASS | {"until": "2025-12-31T06:00:00Z"}, "until: 2025-12-31T06:00:00+00:00 is before 2026-01-01T06"),
    (BYPASS | {"estimated_m3": "-1"}, "estimated_m3: -1 is not a number of 0 or more"),
    (BYPASS | {"estimated_m3": True}, f"estimated_m3: found true; allowed: {NUMBER}"),
    (FAULT | {"part": "paint"}, 'part: found "paint"; allowed: "capture", "comms"'),
    (without(FAULT, "from") | {"form": AT}, "form: no field of equipment_fault; did you mean `from`?"),
    (FAULT | {"until": BEFORE[:-1]}, f'until: found "{BEFORE[:-1]}"; allowed: an instant, such as'),
    (INSPECTION | {"meter_works": "yes"}, 'meter_works: found "yes"; allowed: true or false'),
    (INSPECTION | {"volume_estimate_m3": "5,5"}, f'volume_estimate_m3: found "5,5"; allowed: {NUMBER}'),
    (NOTICE | {"volume_estimate_m3": "-5"}, "volume_estimate_m3: -5 is not a number of 0 or more"),
    (NOTICE | {"user": "U" * 65}, f"""user: found "{"U" * 59}…; allowed: {NOT_EMPTY}"""),
    (ACCEPTED | {"user": ""}, f'user: found ""; allowed: {NOT_EMPTY}'),
    (without(REJECTION, "user"), f"user: missing; allowed: {NOT_EMPTY}"),
    (EXPERT | {"volume_m3": "NaN"}, "volume_m3: NaN is not a number"),
    (EXPERT | {"equipment_works": None}, "equipment_works: found null; allowed: true or false"),
    (AGREED | {"gas_day": "2200-01-01"}, "gas_day: 2200-01-01 is not between 1970-01-01 and 2199-12-31"),
    (AGREED | {"gas_day": "31 January"}, 'gas_day: found "31 January"; allowed: a date, such as 2026-01-31'),
    (without(WITHDRAWN, "by"), f"by: missing; allowed: {NOT_EMPTY}"),
    (WITHDRAWN | {"reason": 7}, "reason: found 7; allowed: text"),
    (EXCLUDED | {"reason": "snow"}, 'reason: found "snow"; allowed: "force_majeure", "no_access", "reed_switch"'),
    (EXCLUDED | {"until": "2025-12-31"}, "until: 2025-12-31 is before `from`, 2026-01-01"),
    (EXCLUDED | {"from": "1926-01-02"}, "from: 1926-01-02 is not between 1970-01-01 and 2199-12-31"),
    (PROVIDED | {"version": 0}, "version: found 0; allowed: a whole number, 1 or more"),
    (INTERVAL | {"confirmed": 1}, "confirmed: found 1; allowed: true or false"),
    (INTERVAL | {"interval_s": 0}, "interval_s: found 0; allowed: a whole number, 1 or more, at most 2678400"),
    (ALARM | {"kind": "fire"}, 'kind: found "fire"; allowed: "tamper", "battery_low", "reed_switch", "bypass_open", "other"'),
    (ALARM | {"fact": "alarms"}, 'fact: found "alarms"; did you mean `alarm`?'),
    (ALARM | {"fact": ["alarm"]}, 'fact: found ["alarm"]; did you mean `alarm`?'),
    (ALARM | {"received_at": 1767333600}, "received_at: found 1767333600; allowed: an instant"),
]


def test_the_facts_that_are_broken_below_are_facts() -> None:
    read = list(read_facts([json.dumps(fact).encode() for fact in GOOD]))
    assert [json.loads(write_fact(fact)) for fact in read if not isinstance(fact, BadLine)] == GOOD
    assert {fact["fact"] for fact in GOOD} < {kind.__struct_config__.tag for kind in FACT_TYPES}


@pytest.mark.parametrize(("broken", "said"), BROKEN, ids=[f"{fact['fact']}: {said[:30]}" for fact, said in BROKEN])
def test_the_sentence_names_field_value_and_what_is_allowed(broken: dict[str, Any], said: str) -> None:
    read = list(read_facts([json.dumps(line).encode() for line in (REMOVED, broken, ALARM)]))
    assert isinstance(read[1], BadLine)
    assert str(read[1]).startswith(f"line 2: {said}")
    assert [isinstance(each, BadLine) for each in read] == [False, True, False]
