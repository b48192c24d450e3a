"""VarFormer. May import `models.imageops` and `models.nets` (`blocks`, `nafnet`, `state`)."""
