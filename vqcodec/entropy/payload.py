"""Index maps <-> payloads: the order of symbols, which both directions share.

    indices  ->  frequencies, of all positions at once    ->  symbols, in order  ->  payload
    payload  ->  symbols, in order, and step by step their frequencies  ->  indices

The order is step by step through the wavefront; in a step group by group; in a group codebook by
codebook; of a codebook the step's positions in raster order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from vqcodec.entropy.coder import Decoder, Encoder
from vqcodec.entropy.frequencies import code_lengths
from vqcodec.entropy.prior import GroupHeads, Prior, State
from vqcodec.watch import stage

WORK_WORTH_THREADS = 512 * 128**2  # rows of a step times channels squared

Choose = Callable[[int, Tensor], Tensor]
"""First codebook of a group of n, and the group's logits of one step, to symbols int64 [N, n * p].

Logits are integers in float64 [N, n * p, K], in 1/16 nat, codebook by codebook.
"""

StepsDone = Callable[[int, int], None]
"""Called with the number of steps done and of all steps."""


def order(state: State, progress: StepsDone | None = None) -> Iterator[tuple[Tensor, GroupHeads]]:
    """The raster positions of a step, int64 [p], and a group of codebooks; in the order of symbols.

    Args:
        state: Of the maps.
        progress: Called after every step.
    """
    threads = torch.get_num_threads()
    largest = state.grid.count * max(map(len, state.steps))
    if largest * state.context.shape[-1] ** 2 < WORK_WORTH_THREADS:
        # Thousands of small products gain little from threads, and where another program has one
        # of the cores each of them would wait for it: seconds became a minute.
        torch.set_num_threads(1)
    try:
        for n, positions in enumerate(state.steps):
            for group in state.groups:
                yield positions, group
            if progress is not None:
                progress(n + 1, len(state.steps))
    finally:
        torch.set_num_threads(threads)


def encode(prior: Prior, state: State, indices: Tensor) -> tuple[list[bytes], float]:
    """Indices to a payload for each map.

    Args:
        prior: The level's.
        state: A fresh one, of N maps.
        indices: int64 [N, G, H, W].

    Returns:
        The payloads, and their ideal code length in bits.
    """
    frequencies, symbols = prior.parallel(state, indices).cpu(), indices.flatten(2).cpu()
    encoders = [Encoder() for _ in symbols]
    with stage("coding"):
        for positions, group in order(state):
            here = slice(None), group.books, positions
            coded = symbols[here].flatten(1), frequencies[here][..., : group.size].flatten(1, 2)
            for encoder, own, rows in zip(encoders, *coded, strict=True):
                encoder.encode(own, rows)
        payloads = [encoder.payload() for encoder in encoders]
    return payloads, float(code_lengths(frequencies, symbols).sum())


@torch.inference_mode()
def decode(
    prior: Prior, state: State, payloads: Sequence[bytes], progress: StepsDone | None = None
) -> Tensor:
    """A payload for each map to indices.

    Args:
        prior: The level's.
        state: A fresh one, of N maps.
        payloads: N of them.
        progress: Called after every step.

    Returns:
        int64 [N, G, H, W], 0 for codebooks left out.

    Raises:
        SectionError: a payload does not fit its model.
    """
    decoders = [Decoder(payload) for payload in payloads]
    for positions, group in order(state, progress):
        frequencies = prior.frequencies(prior.logits(state, positions, group))
        with stage("coding"):
            rows = [coder.decode(each) for coder, each in zip(decoders, frequencies, strict=True)]
        prior.know(state, positions, group, torch.from_numpy(np.stack(rows)))
    for decoder in decoders:
        decoder.finish()
    return state.maps


@torch.inference_mode()
def find(prior: Prior, state: State, choose: Choose, progress: StepsDone | None = None) -> Tensor:
    """Indices from elsewhere than a payload, in the order of symbols.

    Args:
        prior: The level's.
        state: A fresh one, of N maps.
        choose: Gives the symbols of each group of each step.
        progress: Called after every step.

    Returns:
        int64 [N, G, H, W], 0 for codebooks left out.
    """
    for positions, group in order(state, progress):
        logits = prior.logits(state, positions, group)
        prior.know(state, positions, group, choose(group.codebooks.start, logits))
    return state.maps
