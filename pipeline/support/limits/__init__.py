"""Limits of time and memory: budget of a run, deadline of a scene, capacity for images."""
