"""A video file as a `Source`: probing, decoding, colour conversion. Imports `files` and the top of `data`."""
