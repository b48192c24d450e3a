"""All benchmark tables, one after the other: `make bench` (about a quarter of an hour on two idle cores)."""

from __future__ import annotations

from benchmarks import burst, flow, gopro_patches, heldout, network, quality, speed, synthetic


def main() -> None:
    for part in (speed, network, quality, heldout, gopro_patches, synthetic, burst, flow):
        print(f"\n## {part.__name__.split('.')[-1]}\n\n{(part.__doc__ or '').splitlines()[0]}\n", flush=True)
        part.main()


if __name__ == "__main__":
    main()
