"""The families of autoencoders that a model can have."""

from __future__ import annotations

from typing import Any

from vqcodec.models import vqvae
from vqcodec.models.autoencoder import Autoencoder, AutoencoderConfig
from vqcodec.models.vqvae import VQVAE, VQVAEConfig

AnyAutoencoder = Autoencoder | VQVAE
AnyConfig = AutoencoderConfig | VQVAEConfig


def from_config(fields: dict[str, Any]) -> AnyAutoencoder:
    """A fresh autoencoder from the JSON-ready form of its config.

    The codec's own family is not named in it.

    Raises:
        ValueError: no such family.
    """
    family = fields.get("family")
    if family is None:
        return Autoencoder(AutoencoderConfig.from_dict(fields))
    if family != vqvae.FAMILY:
        raise ValueError(f"no family of autoencoders is called {family!r}")
    return VQVAE(VQVAEConfig.from_dict(fields))
