"""SwinIR. May import `models.imageops` and `models.nets` (`blocks`, `state`)."""
