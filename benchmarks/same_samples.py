"""Whether a seed draws the same samples whatever computes them.

Every row is a process of its own. Pixels come out of float networks and may differ by 1.
"""

from __future__ import annotations

from unittest import mock

import click
import numpy as np
import numpy.typing as npt

from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.bench.processes import fresh
from vqcodec.drawing import sampling
from vqcodec.registry import default_generator
from vqcodec.weights_file import load

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
SEED = 5


def draw(
    model: str, batch: int, guidance: float, device: str = "cpu", count: int = COUNT
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """All indices of all images, [N, indices], and the pixels, [N, S, S, 3]."""
    autoencoder = load(model, device).autoencoder
    with mock.patch.object(autoencoder, "synthesize", wraps=autoencoder.synthesize) as watched:
        drawn = sampling.sample(
            model=model,
            classes=CLASSES,
            count=count,
            seed=SEED,
            batch=batch,
            temperature=0.9,
            top_p=0.98,
            guidance=guidance,
            device=device,
        )
    # Images are restored one by one.
    indices = [
        np.concatenate([maps.cpu().numpy().ravel() for maps in call.args[0]])
        for call in watched.mock_calls
    ]
    return np.stack(indices), np.stack([each.pixels for each in drawn]).astype(int)


@click.command(cls=Command)
@click.option("--model", metavar="ID|FILE", help="The packaged generator if not given.")
def main(model: str | None) -> None:
    """Draws the same samples in many ways and counts what differs; exit code 1 if indices do."""
    model = model or default_generator()
    rows: list[list[object]] = []
    first: dict[float, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = {}
    for batch, variables in tracked(SETTINGS, "settings"):
        row: list[object] = [" ".join(map("=".join, variables.items())) or "as it is", batch]
        every = dict.fromkeys(VARIABLES) | {"OMP_NUM_THREADS": "1"} | variables
        for guidance in (1.0, 1.5):
            with fresh(variables=every) as process:
                found = process.submit(draw, model, batch, guidance).result()
            expected = first.setdefault(guidance, found)
            row.append((found[0] != expected[0]).sum())
            row.append(np.abs(found[1] - expected[1]).max())
        rows.append(row)
    print_table(
        f"{len(CLASSES) * COUNT} samples, {first[1.0][0].size} indices in either column",
        ["setting", "batch", "indices that differ", "pixels, at most", "guided", "pixels"],
        rows,
    )
    print_made(model)
    if any(row[2] or row[4] for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
