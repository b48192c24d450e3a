"""Small fast movers as layers: which are fitted, crops, the fit of a few frames, the fade between fits."""
