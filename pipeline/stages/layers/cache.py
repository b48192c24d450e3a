"""The layer stage: small fast movers, each fitted as a layer to a few frames of its track.

A track is divided into chunks of a few frames. One layer is fitted to each chunk and the frames beside it.
Chunks depend on the track alone: windows, and runs that continue an interrupted one, use the same.

Nothing here takes a gradient.
"""

from __future__ import annotations

from freezeframe.motion.regions.region_map import RegionMap
from freezeframe.pipeline.config import GateConfig
from freezeframe.pipeline.stages.gate import RegionProposal
from freezeframe.pipeline.stages.shots import Window
from freezeframe.pipeline.stages.survey import Survey

from .chunk_fit import Chunk, ChunkFitter, chunks
from .crossfade import crossfade
from .movers import LAYER_PARAMS, LayerParams, known_shutter


class LayerCache:
    """Fitted chunks whose frames are not all written yet."""

    def __init__(self) -> None:
        self._chunks: dict[tuple[int, range], Chunk] = {}  # by the track, and the frames to show
        self._shot = -1
        self._shutters: list[float] = []  # of the movers of the shot that layers explain

    def propose(
        self,
        window: Window,
        regions: RegionMap,
        survey: Survey,
        gate: GateConfig,
        *,
        params: LayerParams = LAYER_PARAMS,
    ) -> dict[int, list[RegionProposal]]:
        """Changes of the frames that a window writes, by their numbers.

        Args:
            window: Frames of one shot.
            regions: Movers of the clip.
            survey: Shutter of the clip.
            gate: Threshold of blur.
            params: Tunables.
        """
        frames = {frame.index: frame for frame in window.frames}
        if window.shot != self._shot:
            self._shot, self._shutters = window.shot, []
        shutter = known_shutter(survey, regions, params)
        fitter = ChunkFitter(frames, regions, gate, shutter=shutter, found=self._shutters, params=params)
        first, last = window.written[0].index, window.written[-1].index
        proposals: dict[int, list[RegionProposal]] = {frame.index: [] for frame in window.written}
        for track in regions.tracks:
            fitted: list[tuple[range, Chunk]] = []
            for chunk in chunks(track.span, params.rigid_frames):
                seen = chunk.start - params.overlap <= last and first < chunk.stop + params.overlap
                if seen and fitter.may_be_blurred(track, chunk):
                    key = track.number, chunk
                    if key not in self._chunks:
                        self._chunks[key] = fitter.fit(track, chunk)
                    fitted.append((chunk, self._chunks[key]))
            for index, found in proposals.items():
                candidates = [(shown, chunk[index]) for shown, chunk in fitted if index in chunk]
                if candidates:
                    found.append(crossfade(candidates, index, params.overlap))
        self._forget(last - params.overlap)
        return proposals

    def _forget(self, last: int) -> None:
        """Drop the chunks that end with frame `last` or before it."""
        self._chunks = {key: chunk for key, chunk in self._chunks.items() if key[1].stop - 1 > last}
