"""Whole commands as functions: deblur a clip or a burst, run a batch, probe, restore, rebuild a scene.

Imports everything of pipeline but bench and commands.
"""
