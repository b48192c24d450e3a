"""The shutter fraction of a clip, estimated from its frames.

May import `data`, `motion.flow` and the shutter network of `models`.
"""
