"""Benchmarks and the scripts that produce the released weights. Imports the package; not part of it."""
