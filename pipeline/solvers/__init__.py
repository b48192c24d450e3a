"""Inverse problems of a frame, a burst or a shot: deconvolution, blur correction, camera and scene.

Imports `pipeline/config.py`, support, and everything below pipeline.
"""
