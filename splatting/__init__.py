"""Gaussian splatting of static scenes from blurred frames. Imports `models` and `data`."""
