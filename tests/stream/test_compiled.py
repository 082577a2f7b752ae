"""Some tests are run twice: on plain Python, and on what `setup.py` compiles (`tests/compiled.py`)."""

from __future__ import annotations

import os

from metering import batch, point
from storage import fact_store_rocksdb
from stream import processor, states
from tests.compiled import COMPILED


def test_what_is_compiled_is_what_is_tested() -> None:
    modules = batch, point, fact_store_rocksdb, processor, states
    compiled = COMPILED in os.environ
    assert {str(module.__file__).endswith(".so") for module in modules} == {compiled}
