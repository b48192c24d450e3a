"""Rendered scenes and degradations with exact ground truth. May import the rest of `data`."""
