"""For the compiled build of the rules and the stream job only; everything else is in pyproject.toml.

    pip install '.[stream]' 'mypy>=1.10' 'setuptools>=77'
    DAILYREAD_COMPILE=1 pip install --no-build-isolation --no-deps --force-reinstall .

Compiles with mypyc what a Day passes through: the same code and the same results, in about two thirds of the time. It needs a C
compiler. `make test` runs tests on it (tests/compiled.py). `stream/partition.py` stays in Python: mypyc gives the `error` of
several `except` in a coroutine the type of the first, so any other exception ended the task, unseen; no gain was to be seen.
"""

import os

from setuptools import setup

COMPILED = {
    "metering": ("gasday", "volumes", "batch", "chain", "reference", "held", "assess", "records", "point"),
    "storage": ("fact_store", "fact_store_rocksdb"),
    "stream": ("marks", "outlooks", "processor", "states"),
}

if os.environ.get("DAILYREAD_COMPILE") == "1":
    from mypyc.build import mypycify

    setup(ext_modules=mypycify([f"{package}/{name}.py" for package, names in COMPILED.items() for name in names]))
else:
    setup()
