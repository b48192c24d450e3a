"""The command `freezeframe scene`: rebuild, evaluate, export, or fall back to the video pipeline.

Imports everything of `pipeline` except `commands` and `bench`.
"""
