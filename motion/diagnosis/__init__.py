"""Kind and amount of blur, noise and compression in one frame. May import `data` and `motion.flow`."""
