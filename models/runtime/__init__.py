"""Devices, number formats and backends that run a network, their selection by timing, and memory estimates.

Imports `models.imageops`, `models.deblur`, `models.registry` and `data` only.
"""
