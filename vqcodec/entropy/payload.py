"""Index maps <-> payloads: the order of symbols, which both directions share.

    indices  ->  all features in one pass, then step by step frequencies and symbols  ->  payload
    payload  ->  step by step features, frequencies and symbols  ->  indices

The order is step by step through the wavefront; in a step group by group; in a group codebook by
codebook; of a codebook the step's positions in raster order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqcodec.entropy.coder import Decoder, Encoder
from vqcodec.entropy.frequencies import code_length
from vqcodec.entropy.state import State
from vqcodec.spec.prior import TOTAL_BITS
from vqcodec.threads import single
from vqcodec.watch import stage

Choose = Callable[[State, int, int], "npt.NDArray[np.int32]"]
"""A state and the numbers of a step of p positions and a group of n codebooks to symbols: int32
[N, n * p], codebook by codebook."""

StepsDone = Callable[[int, int], None]
"""Called with the number of steps done and of all steps."""


def order(state: State, progress: StepsDone | None = None) -> Iterator[tuple[int, int]]:
    """Numbers of a step and of a group of codebooks, in the order of symbols.

    Args:
        state: Of the maps.
        progress: Called after every step.
    """
    # Thousands of small operations gain little from threads, and where another program has one of
    # the processors, each of them would wait for it.
    with nullcontext() if state.worth_threads else single():
        for step in range(len(state.steps)):
            for group in range(len(state.groups)):
                yield step, group
            if progress is not None:
                progress(step + 1, len(state.steps))


def encode(state: State, indices: Tensor) -> tuple[list[bytes], float]:
    """Indices to a payload for each map.

    Args:
        state: A fresh one, of N maps.
        indices: int64 [N, G, H, W].

    Returns:
        The payloads, and their ideal code length in bits.
    """
    encoders = [Encoder() for _ in indices]
    symbols = _by_step(state, indices)
    chosen: list[npt.NDArray[np.float32]] = []
    state.see(indices)
    for step, group in order(state):
        rows = state.read(step, group)
        own = symbols[step][:, state.groups[group].books].reshape(len(rows), -1)
        with stage("coding"):
            for encoder, some, each in zip(encoders, own, rows, strict=True):
                encoder.encode(some, each)
        chosen += [each[np.arange(len(each)), some] for some, each in zip(own, rows, strict=True)]
        state.know(step, group, own)
    return [encoder.payload() for encoder in encoders], code_length(chosen)


def code_lengths(state: State, indices: Tensor) -> npt.NDArray[np.float64]:
    """Ideal code lengths of maps.

    Args:
        state: A fresh one, of N maps.
        indices: int64 [N, G, H, W].

    Returns:
        Bits, float64 [N].
    """
    symbols = _by_step(state, indices)
    bits = np.zeros(len(indices))
    state.see(indices)
    for step, group in order(state):
        rows = state.read(step, group)
        own = symbols[step][:, state.groups[group].books].reshape(len(rows), -1)
        chosen = np.take_along_axis(rows, own[..., None].astype(np.int64), -1)
        bits += (TOTAL_BITS - np.log2(chosen[..., 0].astype(np.float64) + 1)).sum(1)
        state.know(step, group, own)
    return bits


def _by_step(state: State, indices: Tensor) -> list[npt.NDArray[np.int32]]:
    """Indices [N, G, H, W] of each step: int32 [N, G, p]."""
    in_order = indices.flatten(2).int().cpu().numpy()[:, :, torch.cat(list(state.steps)).numpy()]
    return np.split(in_order, np.cumsum([len(step) for step in state.steps])[:-1], axis=2)


@torch.inference_mode()
def decode(state: State, payloads: Sequence[bytes], progress: StepsDone | None = None) -> Tensor:
    """A payload for each map to indices.

    Args:
        state: A fresh one, of N maps.
        payloads: N of them.
        progress: Called after every step.

    Returns:
        int64 [N, G, H, W], 0 for codebooks left out.

    Raises:
        SectionError: a payload does not fit its model.
    """
    decoders = [Decoder(payload) for payload in payloads]
    for step, group in order(state, progress):
        rows = state.read(step, group)
        with stage("coding"):
            own = [decoder.decode(each) for decoder, each in zip(decoders, rows, strict=True)]
        state.know(step, group, np.array(own))
    for decoder in decoders:
        decoder.finish()
    return state.maps


@torch.inference_mode()
def find(state: State, choose: Choose, progress: StepsDone | None = None) -> Tensor:
    """Indices from elsewhere than a payload, in the order of symbols.

    Args:
        state: A fresh one, of N maps.
        choose: Gives the symbols of each group of each step.
        progress: Called after every step.

    Returns:
        int64 [N, G, H, W], 0 for codebooks left out.
    """
    for step, group in order(state, progress):
        state.know(step, group, choose(state, step, group))
    return state.maps
