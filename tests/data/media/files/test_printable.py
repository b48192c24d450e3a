"""Control characters in untrusted file names are escaped; all other text is unchanged."""

from __future__ import annotations

import pytest

from freezeframe.data.media.files.printable import printable


@pytest.mark.parametrize("name", ["Übung 12:30.mp4", "犬\t猫\n", "naïve café 🏃.mov"])
def test_words_of_every_language_stay(name: str):
    assert printable(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[2Jgone.mp4", r"\x1b[2Jgone.mp4"),
        ("a\rb\x07", r"a\rb\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        (b"\xff.mp4".decode(errors="surrogateescape"), r"\udcff.mp4"),
    ],
)
def test_what_steers_a_terminal_is_shown(name: str, shown: str):
    assert printable(name) == shown
    assert printable(name).isprintable()
    printable(name).encode()  # also for a terminal with strict UTF-8
