"""The families of autoencoders that a model can have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vqcodec.models import vqvae
from vqcodec.models.autoencoder import Autoencoder, AutoencoderConfig
from vqcodec.models.family import Family
from vqcodec.models.vqvae import VQVAE, VQVAEConfig

FAMILIES: dict[str | None, Callable[[dict[str, Any]], Family]] = {
    None: lambda fields: Autoencoder(AutoencoderConfig.from_dict(fields)),
    vqvae.FAMILY: lambda fields: VQVAE(VQVAEConfig.from_dict(fields)),
}
"""By the `family` that a config names; the codec's own names none."""


def from_config(fields: dict[str, Any]) -> Family:
    """A fresh autoencoder from the JSON-ready form of its config.

    Raises:
        ValueError: no such family.
    """
    family = fields.get("family")
    if family not in FAMILIES:
        raise ValueError(f"no family of autoencoders is called {family!r}")
    return FAMILIES[family](fields)
