"""Published restoration networks, one file or folder each, and the blocks that they share.

May import `models.imageops` and the rest of this folder; `dreamclear` also reads files by `models.store`.
"""
