"""DreamClear, a latent diffusion model with control networks.

May import `models.nets` (`swinir`, `blocks`, `state`); `loading` also reads files by `models.store`.
"""
