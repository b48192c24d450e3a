"""Optical flow and everything that reads an image along it. May import `data` only."""
