"""From a file to a file: stages, solvers, training, whole commands and the command line.

Imports motion, splatting, models and data. `deblur.py` shows the stages in their order.
"""
