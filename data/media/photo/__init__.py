"""Photo files: decoding and encoding with ICC profile and EXIF. Imports `files` and the top of `data`."""
