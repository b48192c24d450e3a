"""Camera trajectories over the exposures, and the Lie groups that they use. Imports `data` only."""
