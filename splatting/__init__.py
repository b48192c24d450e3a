"""Gaussian splatting of static scenes. Nothing lives here yet: this version has no `splat` stage."""
