"""A short campaign: two rounds that between them have most kinds of faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.__main__ import main

pytestmark = pytest.mark.integration


def test_nothing_is_lost_nor_counted_twice(tmp_path: Path) -> None:
    assert main(["--rounds", "2", "--seed", "2973", "--table", str(tmp_path / "rounds.csv")]) == 0
