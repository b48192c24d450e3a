"""A folder of files, such as the test suite of another project: each through `freezeframe video` once.

python -m tests.campaigns.run --folder media/libraries/test_data/src/test/assets/media
python -m tests.campaigns.run --folder torchcodec/test/resources
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

from freezeframe.tests.campaigns.collection import SUFFIXES, check_file
from freezeframe.tests.campaigns.invariants import Outcome


@dataclass(frozen=True)
class FolderCampaign:
    """The files of a folder and its sub-folders, as a campaign with one case per file."""

    folder: Path

    @cached_property
    def files(self) -> list[Path]:
        return sorted(
            file for file in self.folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()
        )

    @property
    def CASES(self) -> int:  # noqa: N802  # the constant of the other campaigns
        return len(self.files)

    def prepare(self, baseline: Path) -> None:
        """Nothing to prepare."""

    def case(self, random: Random, baseline: Path, folder: Path) -> Outcome:
        file = self.files[int(folder.name.removeprefix("case"))]
        row = check_file(file, folder, options=("--end", "0.5"))
        passed = row.outcome in {"whole", "refused"}
        description = f"{file.relative_to(self.folder).as_posix()}: {row.words}"
        return Outcome(
            kind=row.outcome, fault="" if passed else f"{row.outcome}: {row.words}", description=description
        )
