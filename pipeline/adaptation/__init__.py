"""The fusion network of a job: loading, and test-time fine-tuning on the clip.

Imports `pipeline/config.py`, stages, support, training, and everything below pipeline.
"""
