"""Fast objects as layers: a picture with a soft mask on a continuous path. Imports `optim.losses`."""
