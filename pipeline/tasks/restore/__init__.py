"""Single-image restoration of photos and videos. Imports `models`, `stages` and `support`."""
