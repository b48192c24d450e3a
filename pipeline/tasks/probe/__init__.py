"""The diagnosis of a clip or photo. Imports `stages` and `support`."""
