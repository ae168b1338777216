"""What is compiled for the processor: the steps of the priors, and convolutions.

`vqcodec.compiling` sees to it that these are there, and tested. Until then, and where they cannot
be had, PyTorch computes the same.
"""

from __future__ import annotations

import os

import torch

from vqcodec.threads import number

CHOICE = "VQCODEC_KERNELS"

_loaded = False


def usable(device: torch.device) -> bool:
    """Whether a device's work may be done by compiled code: it is loaded, and not forbidden."""
    return _loaded and device.type == "cpu" and os.environ.get(CHOICE) != "torch"


def threads(device: torch.device) -> int:
    """In how many threads steps of priors may go on beside each other: compiled ones only do."""
    return number() if usable(device) else 1


def loaded() -> None:
    """To be called when everything is compiled and tested."""
    global _loaded
    _loaded = True
