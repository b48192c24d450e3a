"""The stages of `pipeline/deblur.py`, one file each, as functions of values without input or output.

Imports `pipeline/config.py`, solvers, support, and everything below pipeline.
"""
