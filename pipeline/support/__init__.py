"""Report, progress, time limits, signals, and opening sources and sinks.

Imports `pipeline/config.py`, and data. `signals.py` and `units.py` import no library.
"""
