"""A short campaign: rounds of fixed seeds which between them have most kinds of faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.__main__ import main

SEEDS = (3, 5)

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_nor_counted_twice(seed: int, tmp_path: Path) -> None:
    assert main(["--rounds", "1", "--seed", str(seed), "--table", str(tmp_path / "rounds.csv")]) == 0
