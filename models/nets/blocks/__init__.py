"""Layers that several architectures share. Imports torch only."""
