"""Forward models of blur, weather, sensor, camera and codec.

May import `data.srgb`, `data.color` and `scene2d`.
"""
