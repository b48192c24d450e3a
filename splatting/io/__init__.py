"""Scenes and cameras in files, and COLMAP. Imports `scene`, `camera` and `rasterizer`."""
