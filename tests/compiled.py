"""What `setup.py` compiles, installed as the README says, in a folder of its own, and used from there.

    python -m tests.compiled MODULE [ARGUMENTS...]        such as: python -m tests.compiled pytest tests/metering

The module is run in a copy of the repository that has the packages themselves no more, so nothing can take them from there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

from metering import point

REPOSITORY = Path(__file__).resolve().parent.parent
COMPILED = "TESTED_AS_COMPILED"  # an environment variable: what is run is to be compiled


def is_compiled() -> bool:
    """Whether the rules that this process uses are compiled."""
    return str(point.__file__).endswith(".so")


def run_compiled(module: str, arguments: Sequence[str]) -> int:
    """Run a module with the compiled ones; its exit code."""
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        raise SystemExit("Python's headers are missing here, please install them (Debian's python3-dev)")
    with tempfile.TemporaryDirectory() as folder:
        copy, installed = Path(folder) / "repository", Path(folder) / "installed"
        shutil.copytree(REPOSITORY, copy, ignore=shutil.ignore_patterns(".*", "build", "out", "*.egg-info"))
        options = ["-q", "--no-build-isolation", "--no-deps", "--target", str(installed)]
        build = [sys.executable, "-m", "pip", "install", *options, str(copy)]
        subprocess.run(build, env=os.environ | {"DAILYREAD_COMPILE": "1"}, check=True)
        for package in installed.iterdir():
            if (copy / package.name).is_dir():
                shutil.rmtree(copy / package.name)
        path = {"PYTHONPATH": f"{installed}:{copy}", COMPILED: "1"}
        return subprocess.run([sys.executable, "-m", module, *arguments], cwd=copy, env=os.environ | path).returncode


if __name__ == "__main__":
    sys.exit(run_compiled(sys.argv[1], sys.argv[2:]))
