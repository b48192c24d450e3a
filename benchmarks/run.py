"""All benchmark tables, one after the other: `make bench` (an hour on two idle cores)."""

from __future__ import annotations

from benchmarks import (
    burst,
    flow,
    gopro_patches,
    heldout,
    network,
    quality,
    restorer_speed,
    scenes,
    speed,
    splatting,
    synthetic,
)

PARTS = (
    speed,
    network,
    restorer_speed,
    quality,
    heldout,
    gopro_patches,
    synthetic,
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
