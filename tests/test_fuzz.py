"""The fuzzer's targets: each bears its own seeds, spoiled as a line spoils them. The search itself is `make fuzz`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fuzz.__main__
from fuzz.__main__ import TARGETS


def test_every_target_is_in_the_list() -> None:
    folder = Path(fuzz.__main__.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} - {"__main__"} == set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_spoiled_seeds_are_borne(target: str) -> None:
    module = import_module(f"fuzz.{target}")

    @settings(max_examples=100, deadline=None, database=None)
    @given(st.sampled_from(module.SEEDS), st.binary(max_size=4), st.integers(0, 80), st.integers(0, 4))
    def spoil(seed: bytes, splice: bytes, where: int, lost: int) -> None:
        module.decode(seed[:where] + splice + seed[where + lost :])

    for seed in module.SEEDS:
        module.decode(seed)
    spoil()
