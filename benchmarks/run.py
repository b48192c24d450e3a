"""All benchmark tables: `make bench` (an hour on two idle cores)."""

from __future__ import annotations

from benchmarks.accuracy import burst, flow, gopro_patches, heldout, known_motion, quality, scenes
from benchmarks.movers import movers
from benchmarks.speed import end_to_end, fusion_net, restorers, splatting, still_camera

PARTS = (
    end_to_end,
    fusion_net,
    restorers,
    still_camera,
    quality,
    movers,
    heldout,
    gopro_patches,
    known_motion,
    burst,
    flow,
    splatting,
    scenes,
)


def main() -> None:
    for part in PARTS:
        print(f"\n## {part.__name__.split('.')[-1]}\n\n{(part.__doc__ or '').splitlines()[0]}\n", flush=True)
        part.main()


if __name__ == "__main__":
    main()
