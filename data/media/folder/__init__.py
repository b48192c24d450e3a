"""A folder of numbered images as a `Source` and as a `Sink`.

Imports `photo`, `video_in`, `files` and the top of `data`.
"""
