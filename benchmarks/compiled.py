"""Benchmarks of what `setup.py` compiles: installed into a folder of its own, and measured from there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from metering import point

REPOSITORY = Path(__file__).resolve().parent.parent


def is_compiled() -> bool:
    """Whether the rules that this process uses are compiled."""
    return str(point.__file__).endswith(".so")


def run_compiled(benchmark: str, arguments: Sequence[str]) -> int:
    """Run a benchmark with the compiled modules; its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"  # a copy: what an earlier build left beside the sources would be taken along
        shutil.copytree(REPOSITORY, source, ignore=shutil.ignore_patterns(".*", "build", "out", "*.egg-info"))
        options = ["-q", "--no-build-isolation", "--no-deps", "--target", folder]
        build = [sys.executable, "-m", "pip", "install", *options, str(source)]
        subprocess.run(build, env=os.environ | {"DAILYREAD_COMPILE": "1"}, check=True)
        measure_it = [sys.executable, "-m", benchmark, *arguments]
        return subprocess.run(measure_it, cwd=folder, env=os.environ | {"PYTHONPATH": f"{folder}:{REPOSITORY}"}).returncode
