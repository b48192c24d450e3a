"""Tiles, padding, crops and upsampling of images around networks. Imports `data` only."""
