"""Restorers: a checkpoint file becomes a function on linear RGB images.

Imports `models.runtime` and everything below it.
"""
