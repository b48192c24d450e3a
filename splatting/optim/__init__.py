"""Losses, schedule and optimisation loop of a scene with its trajectory. Imports `data` and `camera`."""
