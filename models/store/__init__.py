"""Checkpoint files: catalogue, download, cache folder and reading. Imports `data` only."""
