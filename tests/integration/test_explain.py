"""`dailyread explain --config` on a real broker: the facts that concern a meter point, out of the topics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.integration.services import GivenKafka, KafkaBroker
from tests.integration.test_submit_export import Stack

EXAMPLE = Path(__file__).parents[2] / "docs/example.jsonl"


def test_explains_from_kafka_what_it_explains_from_a_file(kafka: KafkaBroker | GivenKafka, tmp_path: Path, unique: str) -> None:
    """The same words, whichever way the facts come; a meter point without facts gets a sentence."""
    stack = Stack(kafka, tmp_path, unique, "simulated")
    assert stack.run("topics", "--create").code == 0
    lines = EXAMPLE.read_text().splitlines()
    other = json.dumps(json.loads(lines[0]) | {"meter_point": "SMP-0002"})
    submitted = stack.run("submit", "-", stdin="\n".join([*lines, other]))
    assert submitted.code == 0, submitted.err
    done = stack.run("explain", "SMP-0001", "2026-01-09")
    assert done.code == 0, done.err
    (tmp_path / "facts.jsonl").write_text("\n".join(json.dumps(fact) for fact in stack.export()))
    assert "391.079 m³" in done.out
    assert done.out == explained_from_file(tmp_path / "facts.jsonl")
    nowhere = stack.run("explain", "SMP-0009", "2026-01-09")
    assert (nowhere.code, nowhere.out) == (2, "")
    assert "nothing was received about the meter point SMP-0009" in nowhere.err


def explained_from_file(path: Path) -> str:
    command = [sys.executable, "-m", "dailyread", "explain", "SMP-0001", "2026-01-09", "--facts", str(path)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True).stdout
