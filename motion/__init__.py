"""Motion between frames: optical flow, camera path, shutter fraction and diagnosis of blur.

May import `data` and `models`; nothing of `splatting` and `pipeline`.
"""
