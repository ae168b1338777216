"""The tokens of one picture in one safetensors file: `level_0`, `level_1` and so on, [H', W', G].

Equal tokens make equal files. What the header of a `.vqz` file says is JSON in the metadata, and
what it keeps besides is there too, so that the `.vqz` file can be made of it bit for bit.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vqcodec.container import Header
from vqcodec.errors import CodecError, FormatError

ENDING = ".safetensors"
FORMAT = "vqcodec-tokens-1"
_METADATA = "vqcodec"
_EXTRA = struct.Struct("<BI")


class Parsed(NamedTuple):
    """What a token file holds.

    Attributes:
        about: Of the model: format, model id, SHA-256, strides, sizes of codebooks.
        header: Of the `.vqz` file.
        indices: Per level uint8 or uint16 [H', W', G].
        extras: As of the container.
        bits: Per level, under the priors; None if they were not asked for.
    """

    about: dict[str, Any]
    header: Header
    indices: list[npt.NDArray[Any]]
    extras: dict[int, bytes]
    bits: list[float] | None


def about_model(
    model_id: str, sha256: str, strides: Sequence[int], sizes: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """The `about` of a model."""
    return {
        "format": FORMAT,
        "model": model_id,
        "sha256": sha256,
        "strides": list(strides),
        "codebook_sizes": [list(each) for each in sizes],
    }


def dump(
    about: dict[str, Any],
    header: Header,
    indices: Sequence[npt.NDArray[Any]],
    extras: Mapping[int, bytes],
    bits: Sequence[float] | None,
) -> bytes:
    """Tokens to a file."""
    from safetensors.numpy import save

    fields = {**asdict(header), "weights_hash": header.weights_hash.hex()}
    tensors = {f"level_{level}": np.ascontiguousarray(each) for level, each in enumerate(indices)}
    if extras:
        tensors["extras"] = np.frombuffer(dump_extras(extras), np.uint8)
    if bits is not None:
        tensors["bits"] = np.array(bits, np.float64)
    text = json.dumps({"about": about, "header": fields}, sort_keys=True)
    return save(tensors, {_METADATA: text})


def parse(content: bytes) -> Parsed:
    """A file to tokens.

    Raises:
        FormatError: it is none, or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        found = json.loads(metadata[_METADATA])
        tensors = load(content)
        fields = {**found["header"], "weights_hash": bytes.fromhex(found["header"]["weights_hash"])}
        about = found["about"]
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']!r}")
        levels = [tensors[f"level_{n}"] for n in range(len(about["strides"]))]
        extras = load_extras(tensors["extras"].tobytes()) if "extras" in tensors else {}
        bits = tensors["bits"].tolist() if "bits" in tensors else None
        return Parsed(about, Header(**fields), levels, extras, bits)
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"is no file of tokens, or damaged ({error}); get it again") from error


def rebuild(
    about: Mapping[str, Any],
    fields: Mapping[str, Any],
    flat: Sequence[npt.NDArray[Any]],
    extras: Mapping[int, bytes],
    bits: Sequence[float] | None,
) -> bytes:
    """The file of which a row of a table was made.

    Args:
        about: Metadata of the table.
        fields: Width, height, quality, tile and grey of the header.
        flat: Tokens of every level, uint8 or uint16 [H' * W' * G].
        extras: As of the container.
        bits: Per level, or None.
    """
    own = {name: about[name] for name in ("format", "model", "sha256", "strides", "codebook_sizes")}
    coarsest = own["strides"][0]
    area = [-(-int(fields[side]) // coarsest) * coarsest for side in ("height", "width")]
    indices = [
        each.reshape(area[0] // stride, area[1] // stride, -1)
        for each, stride in zip(flat, own["strides"], strict=True)
    ]
    header = Header(
        width=fields["width"],
        height=fields["height"],
        grey=fields["grey"],
        model_id=own["model"],
        weights_hash=bytes.fromhex(own["sha256"])[:8],
        tile=fields["tile"],
        quality=fields["quality"],
        levels=len(flat),
    )
    return dump(own, header, indices, extras, bits)


def dump_extras(extras: Mapping[int, bytes]) -> bytes:
    """Kind, length and content of each."""
    return b"".join(
        _EXTRA.pack(kind, len(content)) + content for kind, content in sorted(extras.items())
    )


def load_extras(content: bytes) -> dict[int, bytes]:
    """What `dump_extras` has written.

    Raises:
        CodecError: it is damaged.
    """
    found, at = {}, 0
    while at < len(content):
        if len(content) - at < _EXTRA.size:
            raise CodecError("has damaged extras; get it again")
        kind, length = _EXTRA.unpack_from(content, at)
        at += _EXTRA.size
        if kind in found or length > len(content) - at:
            raise CodecError("has damaged extras; get it again")
        found[kind] = content[at : at + length]
        at += length
    return found
