"""gsplat's `rasterization` on the CPU and on CUDA. Imports `data`, nothing else of `splatting`."""
