"""From trained checkpoints to one packaged weights file: float16 networks, integer priors."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vqcodec import registry, weights_file
from vqcodec.drawing.shaping import Shaping
from vqcodec.entropy.frequencies import Tables
from vqcodec.entropy.layers import under
from vqcodec.errors import CodecError, WeightsError
from vqcodec.models.families import from_config
from vqcodec.models.family import Family
from vqcodec.models.prior import (
    Activation,
    Attention,
    CodeEmbedding,
    Convolution,
    GatedBlock,
    Prior,
    calibrated,
)
from vqcodec.registry import ClassName
from vqcodec.spec import prior as grids
from vqcodec.spec.prior import (
    ACTIVATION_LIMIT,
    EXACT_IN_FLOAT64,
    INT32_SUM,
    REQUANTIZE_BITS,
    PriorConfig,
)
from vqcodec.training import checkpoint
from vqcodec.weights_file import PackedPrior

STREAM_STEP = 2.0**-grids.STREAM_BITS
INT16_MAX = 2**15 - 1


Tensors = dict[str, Tensor]


def shared_tables() -> Tables:
    """The tables that all priors share."""
    index = torch.arange(-128, 128, dtype=torch.float64)
    gates = torch.tanh(index * grids.TANH_STEP)[:, None] * torch.sigmoid(index * grids.SIGMOID_STEP)
    exponential = torch.exp(-torch.arange(256, dtype=torch.float64) * grids.LOGIT_STEP) * 2**20
    return Tables(
        (gates / grids.GATE_STEP).round().to(torch.int8).flatten(),
        exponential.round().to(torch.int64),
    )


def _activation(name: str, activation: Activation) -> Tensors:
    exponent = int(activation.exponent)
    step = 2.0**-exponent
    index = torch.arange(-128, 128, dtype=torch.float64) * step
    table = (torch.nn.functional.elu(index) / step).round().clamp(-127, 127)
    return {
        f"{name}.table": table.to(torch.int8),
        f"{name}.shift": torch.tensor(grids.STREAM_BITS - exponent),
    }


def _step(activation: Activation) -> float:
    return 2.0 ** -int(activation.exponent)


def _linear(
    name: str, layer: Convolution, input_step: float, output_step: float | Tensor
) -> Tensors:
    """A convolution as an int8 product over gathered taps, with its requantization.

    Every output is (sum * multiplier + offset) >> REQUANTIZE_BITS; the offset holds the bias and
    one half.
    """
    scale = layer.weight_scale().double()
    weight = (layer.weight.detach().double() / scale[:, None, None, None]).round()
    taps = [weight[:, :, dy + layer.top, dx + layer.reach] for dy, dx in layer.taps]
    rows = torch.stack(taps, 1).flatten(1).T  # [taps * inputs, outputs]
    assert rows.abs().max() <= grids.WEIGHT_LIMIT
    to_output = torch.as_tensor(2.0**REQUANTIZE_BITS / output_step, dtype=torch.float64)
    multiplier = (scale * input_step * to_output).round()
    offset = (layer.bias.detach().double() * to_output).round() + 2 ** (REQUANTIZE_BITS - 1)
    sums = rows.abs().sum(0) * ACTIVATION_LIMIT
    if sums.max() >= INT32_SUM or (sums * multiplier + offset.abs()).max() >= EXACT_IN_FLOAT64:
        raise CodecError(f"{name}: its sums leave the integers; this prior cannot be packed")
    return {
        f"{name}.weight": rows.to(torch.int8).contiguous(),
        f"{name}.multiplier": multiplier.long(),
        f"{name}.offset": offset.long(),
    }


def _stream_table(table: Tensor) -> Tensor:
    return (table.detach().double() / STREAM_STEP).round().clamp(-INT16_MAX, INT16_MAX).short()


def _embedding(name: str, embedding: CodeEmbedding) -> Tensors:
    tables = [embedding.table(g) for g in range(len(embedding.maps))]
    if embedding.step is None:
        return {f"{name}.{g}": _stream_table(table) for g, table in enumerate(tables)}
    return {
        f"{name}.{g}": (table.detach() / embedding.step).round().clamp(-127, 127).to(torch.int8)
        for g, table in enumerate(tables)
    }


def _block(name: str, block: GatedBlock) -> Tensors:
    channels = block.project.weight.shape[1]
    steps = torch.tensor([grids.TANH_STEP, grids.SIGMOID_STEP], dtype=torch.float64)
    return {
        **_activation(f"{name}.activation", block.activation),
        **_linear(
            f"{name}.gate", block.gate, _step(block.activation), steps.repeat_interleave(channels)
        ),
        **_linear(f"{name}.project", block.project, grids.GATE_STEP, STREAM_STEP),
    }


def _attention(name: str, attention: Attention) -> Tensors:
    size = attention.project.weight.shape[1] // attention.heads
    scale = grids.ATTENTION_STEP**2 / math.sqrt(size) / grids.LOGIT_STEP
    return {
        **_activation(f"{name}.activation", attention.activation),
        **_linear(
            f"{name}.query_key_value",
            attention.query_key_value,
            _step(attention.activation),
            grids.ATTENTION_STEP,
        ),
        **_linear(f"{name}.project", attention.project, grids.ATTENTION_STEP, STREAM_STEP),
        f"{name}.scale": torch.tensor(round(scale * 2**REQUANTIZE_BITS)),
    }


def integer_prior(prior: Prior) -> Tensors:
    """The tensors of `vqcodec.entropy.prior.Prior` for a trained, calibrated float prior."""
    context = prior.context
    tensors: Tensors = {
        "context.quality": _stream_table(context.quality_table()),
        "context.classes": _stream_table(context.classes),
        **_embedding("embedding", prior.embedding),
        **_linear("enter", prior.enter, grids.EMBEDDING_STEP, STREAM_STEP),
        **_activation("activation", prior.activation),
        **_linear("hidden", prior.hidden, _step(prior.activation), STREAM_STEP),
        **_embedding("earlier", prior.earlier),
    }
    for m, embedding in enumerate(context.embeddings):
        assert isinstance(embedding, CodeEmbedding)
        tensors |= _embedding(f"context.embeddings.{m}", embedding)
        for n, block in enumerate(context.blocks[m]):
            tensors |= _block(f"context.blocks.{m}.{n}", block)
        activation = context.activations[m]
        tensors |= _activation(f"context.activations.{m}", activation)
        # The channel order of depth_to_space, [factor, factor, C], is kept.
        tensors |= _linear(
            f"context.upsamples.{m}",
            context.upsamples[m],
            _step(activation),
            STREAM_STEP,
        )
    for n, block in enumerate(prior.blocks):
        tensors |= _block(f"blocks.{n}", block)
    for n, attention in enumerate(prior.attentions):
        tensors |= _attention(f"attention_{n}" if n else "attention", attention)
    for g, (activation, head) in enumerate(zip(prior.head_activations, prior.heads, strict=True)):
        tensors |= _activation(f"head_activations.{g}", activation)
        tensors |= _linear(
            f"heads.{g}",
            head,
            _step(activation),
            grids.LOGIT_STEP,
        )
    return tensors


def write_weights(
    path: Path,
    model_id: str,
    autoencoder: Family,
    priors: Sequence[Prior],
    classes: Sequence[ClassName] = (),
    side: int | None = None,
    shapings: Sequence[Mapping[str, float]] = (),
) -> str:
    """Writes a weights file of trained, calibrated float priors, and returns its SHA-256.

    The arguments are those of `weights_file.write`.
    """
    packed = [PackedPrior(prior.config, integer_prior(prior)) for prior in priors]
    tables = shared_tables()
    return weights_file.write(path, model_id, autoencoder, packed, tables, classes, side, shapings)


def load_autoencoder(path: Path) -> Family:
    """The averaged autoencoder of a training checkpoint, or that of a weights file, for inference.

    Raises:
        CodecError: it is neither.
    """
    if _is_weights_file(path):
        return weights_file.read(registry.locate(path)).autoencoder
    tensors, state = checkpoint.load(path)
    try:
        autoencoder = from_config(state["config"])
        autoencoder.load_state_dict(under("average", tensors))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = "is no checkpoint of vqcodec train autoencoder"
        raise CodecError(f"{reason} ({type(error).__name__})").in_file(path) from error
    return autoencoder.eval()


def _is_weights_file(path: Path) -> bool:
    try:
        return registry.read_metadata(path).get("format") == weights_file.FORMAT
    except WeightsError:  # loading it as a checkpoint says what is wrong
        return False


def fingerprint(autoencoder: Family) -> str:
    """SHA-256 of an autoencoder's tensors, 64 hexadecimal digits: whose indices are whose."""
    digest = hashlib.sha256()
    for name, tensor in sorted(autoencoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_prior(path: Path, autoencoder: Family) -> Prior:
    """The averaged, calibrated prior of a training checkpoint."""
    tensors, state = checkpoint.load(path)
    try:
        config = PriorConfig.from_dict(state["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise CodecError(f"is no checkpoint of a usable prior ({error})").in_file(path) from error
    prior = Prior(config, autoencoder.code_vectors()[: len(config.coarser) + 1])
    expected = {name: value.clone() for name, value in prior.named_buffers() if "codes_" in name}
    try:
        prior.load_state_dict(under("average", tensors))
    except RuntimeError as error:
        raise CodecError("does not fit the autoencoder's codebooks").in_file(path) from error
    buffers = dict(prior.named_buffers())
    # In units of their spread, and in float16 if the autoencoder is a weights file's.
    if not all(
        torch.allclose(buffers[name], value, rtol=0, atol=2**-7) for name, value in expected.items()
    ):
        reason = "was trained on another autoencoder; train it on the indices of this one"
        raise CodecError(reason).in_file(path)
    return prior.eval()


def export(
    autoencoder_checkpoint: Path,
    prior_checkpoints: Sequence[Path],
    path: Path,
    model_id: str,
    shapings: Mapping[str, Sequence[float]] | None = None,
) -> str:
    """Packs training checkpoints into a weights file and returns its SHA-256.

    Args:
        autoencoder_checkpoint: From `train autoencoder`, or a weights file.
        prior_checkpoints: From `train prior`, one per level, coarse to fine.
        path: Of the weights file.
        model_id: What files coded with it will name.
        shapings: How its samples are drawn, fields of `Shaping` with a value for every level.

    Raises:
        CodecError: missing or mismatched checkpoints, or values that cannot be.
    """
    autoencoder = load_autoencoder(autoencoder_checkpoint)
    levels = len(autoencoder.config.levels)
    if len(prior_checkpoints) != levels:
        raise CodecError(
            f"{len(prior_checkpoints)} prior checkpoints for {levels} levels; "
            "give one per level, coarse to fine"
        )
    own_shapings = _by_level(shapings or {}, levels)
    priors = []
    classes: list[ClassName] = []
    side = None
    for level, checkpoint_path in enumerate(prior_checkpoints):
        prior = load_prior(checkpoint_path, autoencoder)
        state = checkpoint.load_state(checkpoint_path)
        known = [ClassName(*each) for each in state.get("classes", [])]
        if level and known != classes:
            reason = "knows other classes than the prior before it; train both on the same indices"
            raise CodecError(reason).in_file(checkpoint_path)
        classes, side = known, state.get("side")
        if len(prior.config.coarser) != level:
            reason = f"is of level {len(prior.config.coarser)}, not {level}; give them in order"
            raise CodecError(reason).in_file(checkpoint_path)
        if not calibrated(prior):
            reason = "was stopped before its values were rounded to the grids; train it to the end"
            raise CodecError(reason).in_file(checkpoint_path)
        priors.append(prior)
    return write_weights(path, model_id, autoencoder, priors, classes, side, own_shapings)


def _by_level(shapings: Mapping[str, Sequence[float]], levels: int) -> list[dict[str, float]]:
    """Fields of `Shaping` for every level, from the values of each field; empty for none.

    Raises:
        CodecError: not a value for every level, or one out of its limits.
    """
    for name, values in shapings.items():
        if len(values) != levels:
            reason = f"{len(values)} values of {name} for {levels} levels"
            raise CodecError(f"{reason}; give one per level, coarse to fine")
    found = [{name: values[n] for name, values in shapings.items()} for n in range(levels)]
    for fields in found:
        Shaping(**fields)  # type: ignore[arg-type]  # none of them is top-k, an integer
    return found if shapings else []
