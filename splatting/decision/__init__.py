"""Whether a shot can be rebuilt, and which pixels of a rendering enter a frame. Imports `optim.losses`."""
