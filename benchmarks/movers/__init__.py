"""Small fast movers in a sharp picture: rendered clips with known ground truth."""
