"""A folder of numbered images as a `Source` and as a `Sink`. Imports every other folder of `media`."""
