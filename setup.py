"""For the compiled build of the engine only; everything else is in pyproject.toml.

    pip install '.[stream]' 'mypy>=1.10' 'setuptools>=77'
    DAILYREAD_COMPILE=1 pip install --no-build-isolation --no-deps --force-reinstall .

Compiles the rules with mypyc: the same code and the same results, in about two thirds of the time. It needs a C compiler.
"""

import os

from setuptools import setup

COMPILED = [
    f"metering/{name}.py"
    for name in ("gasday", "volumes", "batch", "chain", "reference", "held", "assess", "records", "point")
]  # fmt: skip

if os.environ.get("DAILYREAD_COMPILE") == "1":
    from mypyc.build import mypycify

    setup(ext_modules=mypycify(COMPILED))
else:
    setup()
