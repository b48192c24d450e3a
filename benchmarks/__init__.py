"""Benchmarks and the scripts that produce the released weights. Imports the package; not part of it."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # as the command line does, before any library starts threads
