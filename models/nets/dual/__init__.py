"""Dual transformers on Haar subbands. May import `models.nets.state`."""
