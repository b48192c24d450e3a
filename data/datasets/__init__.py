"""Readers of published sets of blurred images with ground truth. May import `data.media`."""
