"""From weights to networks: detection of architectures, bundled weights, and the spandrel adapter.

Imports `models.nets`, `models.deblur`, `models.store` and `data` only.
"""
