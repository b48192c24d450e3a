"""HAIR. May import `models.imageops` and `models.nets` (`restormer`, `blocks`, `state`)."""
