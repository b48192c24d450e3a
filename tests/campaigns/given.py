"""A folder of somebody's files, such as another project's test suite: each through the command once.

    python -m tests.campaigns.run --folder media/libraries/test_data/src/test/assets/media
    python -m tests.campaigns.run --folder torchcodec/test/resources

Half a second of each is worked on, whether it is blurred or not.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from random import Random

from .mutations import Plan, judged
from .promises import PHOTO_SUFFIXES, Outcome

FAST = ("--network", "none", "--iterations", "2", "--min-blur", "0.5", "--end", "0.5")


@dataclass(frozen=True)
class Given:
    """The files of a folder and of all folders in it, as a campaign of one case a file."""

    folder: Path

    @cached_property
    def files(self) -> list[Path]:
        return sorted(_media_in(self.folder))

    @property
    def CASES(self) -> int:  # noqa: N802  # as every campaign says it
        return len(self.files)

    def prepare(self, whole: Path) -> None:
        """The files are there already."""

    def case(self, random: Random, whole: Path, folder: Path) -> Outcome:
        file = self.files[int(folder.name.removeprefix("case"))]
        shutil.copy2(file, folder / file.name)
        outcome = judged(_plan(file), folder, file.relative_to(self.folder).as_posix())
        return replace(outcome, about=f"{outcome.about}: {' '.join(_plan(file).arguments)}")


def _plan(file: Path) -> Plan:
    if file.suffix.lower() in PHOTO_SUFFIXES:
        return Plan(("restore", file.name, "result.png"), "result.png", (file.name,))
    from freezeframe.pipeline.batch import place

    output = place(Path(f"result{file.suffix.lower()}")).name
    return Plan(("video", file.name, output, *FAST), output, (file.name, output))


def _media_in(folder: Path) -> Iterator[Path]:
    from freezeframe.pipeline.batch import VIDEO_SUFFIXES

    for path in folder.rglob("*"):
        if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES | PHOTO_SUFFIXES | {".gif"}:
            yield path
