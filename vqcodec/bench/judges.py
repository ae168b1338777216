"""The metrics of distortion: what they are called, and what measures them.

Adding one is an entry of `ALWAYS`, or of `LEARNT` and an option of `vqcodec bench` if it has
weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vqcodec import registry
from vqcodec.bench.codecs import Missing
from vqcodec.bench.images import Pixels
from vqcodec.metrics import distortion
from vqcodec.metrics.butteraugli import PROGRAM, butteraugli, program
from vqcodec.metrics.dists import Dists
from vqcodec.metrics.lpips import Lpips

Measure = Callable[[Pixels, Pixels], float | None]
"""The original and the restored image, uint8 [H, W, 3] each, to a value; None for no value."""


@dataclass(frozen=True)
class Judge:
    """A metric. Instances travel to the processes that judge, so they hold settings only.

    Attributes:
        key: Of its values in rows and points.
        name: What a reader calls it.
        measure: What measures it.
        unit: Of its values.
        better: Which values are, "higher" or "lower" ones.
        source: What it depends on beside the libraries: weights, or a program.
    """

    key: str
    name: str
    measure: Measure
    unit: str = ""
    better: str = "higher"
    source: str | None = None

    @property
    def metric(self) -> dict[str, str]:
        """What the results say of it."""
        return {"key": self.key, "name": self.name, "unit": self.unit, "better": self.better}


PSNR = Judge("psnr", "PSNR", distortion.psnr, unit="dB")
ALWAYS = (
    PSNR,
    Judge("ms_ssim", "MS-SSIM", distortion.ms_ssim),
    Judge("ssimulacra2", "SSIMULACRA 2", distortion.ssimulacra2),
)
LEARNT: dict[str, Callable[[Path], Lpips | Dists]] = {"lpips": Lpips, "dists": Dists}
"""Those with weights, by their keys, which are the options' names too."""


@dataclass(frozen=True)
class _Learnt:
    """Measures with weights, which a process loads once."""

    key: str
    weights: Path

    def __call__(self, original: Pixels, restored: Pixels) -> float | None:
        return _loaded(self.key, self.weights).distance(original, restored)


@cache
def _loaded(key: str, weights: Path) -> Lpips | Dists:
    return LEARNT[key](weights)


def judges(weights: Mapping[str, Path]) -> tuple[list[Judge], list[Missing]]:
    """The metrics that can be measured here, PSNR first, and those that cannot.

    Args:
        weights: Files for some of `LEARNT`.

    Raises:
        WeightsError: a file is missing or of another kind.
    """
    present: list[Judge] = [*ALWAYS]
    absent: list[Missing] = []
    for key in LEARNT:
        if key in weights:
            own = _loaded(key, weights[key])
            measure = _Learnt(key, weights[key])
            present.append(Judge(key, own.name, measure, better="lower", source=own.source))
        else:
            remedy = f"benchmarks/{key}_weights.py makes them; --{key} FILE"
            absent.append(Missing(key.upper(), "its weights were not given", remedy))
    name, path = "Butteraugli (3-norm)", program()
    if path is None:
        reason, remedy = f"there is no program {PROGRAM}", "apt install libjxl-devtools, or alike"
        absent.append(Missing(name, reason, remedy))
    else:
        source = f"{PROGRAM}, {registry.sha256_of(path)}"
        present.append(Judge("butteraugli", name, butteraugli, better="lower", source=source))
    return present, absent
