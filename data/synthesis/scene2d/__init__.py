"""Renderer of layered 2-D scenes with exact flow and motion blur. May import `data.blur` and `data.color`."""
