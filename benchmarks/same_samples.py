"""Whether a seed draws the same samples whatever computes them.

    python benchmarks/same_samples.py

Every row is a process of its own, with another number of threads, instruction set, kind of matrix
product or batch: of its samples' indices none may differ from the first row's, and their pixels,
which come out of float networks, by 1 at most.
"""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import click
import common
import numpy as np
import torch
from rich.progress import track

from vqcodec.drawing import sampling
from vqcodec.image import Image
from vqcodec.registry import default_generator

VARIABLES = ("OMP_NUM_THREADS", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "VQCODEC_GEMM")
SETTINGS: tuple[tuple[int, dict[str, str]], ...] = (
    (12, {}),
    (1, {}),
    (5, {"OMP_NUM_THREADS": "2"}),
    (12, {"ATEN_CPU_CAPABILITY": "default"}),
    (12, {"ATEN_CPU_CAPABILITY": "avx2"}),
    (12, {"ONEDNN_MAX_CPU_ISA": "SSE41"}),
    (12, {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    (12, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}),
    (12, {"VQCODEC_GEMM": "float32"}),
    (12, {"VQCODEC_GEMM": "float64", "OMP_NUM_THREADS": "2"}),
)
CLASSES = (1, 97, 849)
COUNT = 4


def draw(model: str, batch: int, guidance: float) -> tuple[list[common.Maps], common.Pixels]:
    """Indices of every image, level by level, and pixels uint8 [N, S, S, 3]."""
    found: list[common.Maps] = []
    images = sampling._Sampler._images

    def listen(sampler: sampling._Sampler, indices: list[torch.Tensor]) -> list[Image]:
        for maps in zip(*indices, strict=True):
            found.append([each.numpy().astype(np.uint16) for each in maps])
        return images(sampler, indices)

    with mock.patch.object(sampling._Sampler, "_images", listen):
        drawn = sampling.sample(
            model=model,
            classes=CLASSES,
            count=COUNT,
            seed=5,
            guidance=guidance,
            temperature=0.9,
            top_p=0.98,
            batch=batch,
        )
    return found, np.stack([each.pixels for each in drawn])


@click.command(cls=common.Benchmark)
@click.option("--model", metavar="ID|FILE", help="The packaged generator if not given.")
@common.json_option
@click.pass_context
def main(context: click.Context, model: str | None, json_file: Path | None) -> None:
    """Draws the same samples in many ways and counts what differs; exit code 1 if indices do."""
    model = model or default_generator()
    rows, results = [], []
    reference: dict[float, tuple[list[common.Maps], common.Pixels]] = {}
    compared = 0
    for batch, variables in track(SETTINGS, "settings", console=common.console):
        name = " ".join(f"{key}={value}" for key, value in variables.items()) or "as it is"
        row: list[object] = [name, batch]
        every = dict.fromkeys(VARIABLES) | {"OMP_NUM_THREADS": "1"} | variables
        for guidance in (1.0, 1.5):
            indices, pixels = common.in_fresh_process(draw, model, batch, guidance, variables=every)
            first, first_pixels = reference.setdefault(guidance, (indices, pixels))
            pairs = [
                (a, b)
                for mine, yours in zip(indices, first, strict=True)
                for a, b in zip(mine, yours, strict=True)
            ]
            differ = sum(int((a != b).sum()) for a, b in pairs)
            compared = sum(a.size for a, _ in pairs)
            largest = int(np.abs(pixels.astype(int) - first_pixels).max())
            row += [differ, largest]
            results.append(
                {
                    "variables": variables,
                    "batch": batch,
                    "guidance": guidance,
                    "indices_that_differ": differ,
                    "largest_difference_of_pixels": largest,
                }
            )
        rows.append(row)
    common.print_table(
        f"{model}: {len(CLASSES) * COUNT} samples, {compared} indices in either column",
        ["setting", "batch", "indices that differ", "pixels, at most", "guided", "pixels"],
        rows,
    )
    common.store(json_file, "same_samples", model, {"settings": results})
    if any(each["indices_that_differ"] for each in results):
        context.exit(1)


if __name__ == "__main__":
    main()
