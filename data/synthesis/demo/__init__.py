"""Drawn scenes of the bundled samples, self-checks and benchmarks. May import `scene2d`."""
