"""What indices are chosen for; standard library only, so that the command line knows it too."""

from __future__ import annotations

from typing import NamedTuple

from vqcodec.errors import CodecError


class Tune(NamedTuple):
    """What indices are chosen for.

    Attributes:
        score: How large the gradient of SSIMULACRA 2 at the pixels is at first, against that of all
            together; the search follows it, MS-SSIM's and, for the rest, that of the squared error.
        structure: The same of MS-SSIM.
        natural: Whether through the natural synthesis.
    """

    score: float = 0.0
    structure: float = 0.0
    natural: bool = False


# Chosen on crops of six photographs. With more of the score, a search of few sweeps does worse.
TUNES = {
    "psnr": Tune(),
    "ssimulacra2": Tune(score=0.2, structure=0.4),
    "natural": Tune(score=0.2, natural=True),
}
DEFAULT_TUNE = "psnr"


def tune_of(name: str | None) -> Tune:
    """The tune of a name, or the default for None.

    Raises:
        CodecError: there is none.
    """
    found = TUNES.get(name or DEFAULT_TUNE)
    if found is None:
        raise CodecError(f"there is no tune {name!r}; give {', '.join(TUNES)}")
    return found
