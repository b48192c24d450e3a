"""Scores against ground truth, and their reports. Imports `tasks` and all below."""
