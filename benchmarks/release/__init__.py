"""Scripts that produce the files of a release: weights, their cards, the samples."""
