"""What compiled kernels share: decorators with a disk cache, vectors for intrinsics. Imports numba only."""
