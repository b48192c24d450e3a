"""Global motion: homographies, path of the camera, independent motion.

May import `data` and `motion.flow`.
"""
