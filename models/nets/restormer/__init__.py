"""Restormer, and the U-net that HAIR shares with it. May import `models.imageops` and `models.nets.state`."""
