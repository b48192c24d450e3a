"""Input and output, the blur operator, metrics, datasets and synthetic scenes. Imports no other package."""
