"""Small fast movers in a stream of frames: detection and tracks. May import `data` and `motion.flow`."""
