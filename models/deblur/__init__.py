"""The project's own networks, and classical estimators of the blur and the degradations of one image.

Imports `models.store.state_dict` and `data` only.
"""
