"""A video file as a `Sink`: encoding in segments, muxing, verification.

Imports `video_in`, `files` and the top of `data`.
"""
