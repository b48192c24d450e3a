"""Optimisable scenes: panorama, Gaussians, densification. Imports `rasterizer`, `camera`, `optim.losses`."""
