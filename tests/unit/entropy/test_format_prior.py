"""A second decoder of payloads, written from FORMAT.md alone: plain loops over Python integers."""

from __future__ import annotations

import json
import zlib
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from tiny import GROUPED, write_tiny_model

from vqcodec import codec, container, image

CONE5 = [(-2, dx) for dx in range(-2, 3)] + [(-1, dx) for dx in range(-2, 2)] + [(0, -2), (0, -1)]
CONE3 = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0)]
FULL3 = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]

Array = np.ndarray
Position = tuple[int, int]


class RangeDecoder:
    """The section "Range coder"."""

    MASK = 2**64 - 1

    def __init__(self, payload: bytes) -> None:
        self.words = [int(word) for word in np.frombuffer(payload, "<u4")]
        self.lower, self.range = 0, self.MASK
        self.point = (self.next_word() << 32) | self.next_word()

    def next_word(self) -> int:
        return self.words.pop(0) if self.words else 0

    def symbol(self, frequencies: Array) -> int:
        scale = self.range >> 24
        quantile = ((self.point - self.lower) & self.MASK) // scale
        ends = np.cumsum(frequencies)
        symbol = int(np.searchsorted(ends, quantile, side="right"))
        self.lower = (self.lower + scale * int(ends[symbol] - frequencies[symbol])) & self.MASK
        self.range = scale * int(frequencies[symbol])
        if self.range < 2**32:
            self.lower = (self.lower << 32) & self.MASK
            self.range = (self.range << 32) & self.MASK
            self.point = ((self.point << 32) | self.next_word()) & self.MASK
        return symbol


class Reader:
    """The section "The prior", one position at a time."""

    def __init__(self, weights: Path, level: int) -> None:
        with safe_open(weights, "np") as opened:
            config = json.loads(opened.metadata()["config"])
            self.tensors = {
                name: opened.get_tensor(name)
                for name in opened.keys()  # noqa: SIM118
                if name.startswith((f"priors.{level}.", "tables."))
            }
        self.prefix = f"priors.{level}."
        self.config: dict[str, Any] = config["priors"][level]
        self.gates = self.tensors["tables.gate"].astype(np.int64)
        self.exponential = self.tensors["tables.exponential"]
        self.channels = self.config["channels"]

    def get(self, name: str) -> Array:
        return self.tensors[self.prefix + name].astype(np.int64)

    def linear(self, name: str, x: Array) -> Array:
        sums = x @ self.get(f"{name}.weight")
        return (sums * self.get(f"{name}.multiplier") + self.get(f"{name}.offset")) >> 24

    def over_taps(
        self, name: str, features: dict[Position, Array], at: Position, taps: list[Position]
    ) -> Array:
        nothing = np.zeros(self.channels, np.int64)
        seen = [features.get((at[0] + dy, at[1] + dx), nothing) for dy, dx in taps]
        return self.linear(name, np.concatenate(seen))

    def activation(self, name: str, x: Array) -> Array:
        shift = int(self.get(f"{name}.shift"))
        places = np.clip((x + (1 << (shift - 1))) >> shift, -128, 127) + 128
        return self.get(f"{name}.table")[places]

    def gated(
        self, name: str, features: dict[Position, Array], at: Position, taps: list[Position]
    ) -> Array:
        pair = np.clip(self.over_taps(f"{name}.gate", features, at, taps), -128, 127)
        a, b = np.split(pair, 2)
        return self.linear(f"{name}.project", self.gates[(a + 128) * 256 + b + 128])

    def context(
        self, coarser: list[Array], quality: int, shape: tuple[int, int]
    ) -> dict[Position, Array]:
        start = self.get("context.quality")[quality - 1] + self.get("context.classes")[0]
        first = coarser[0].shape[1:] if coarser else shape
        stream = {(y, x): start.copy() for y in range(first[0]) for x in range(first[1])}
        for m, indices in enumerate(coarser):
            for (y, x), row in stream.items():
                for g, index in enumerate(indices[:, y, x]):
                    row += self.get(f"context.embeddings.{m}.{g}")[index]
            for n in range(self.config["context_blocks"]):
                name = f"context.blocks.{m}.{n}"
                features = {
                    at: self.activation(f"{name}.activation", row) for at, row in stream.items()
                }
                stream = {
                    at: row + self.gated(name, features, at, FULL3) for at, row in stream.items()
                }
            factor, finer = self.config["factors"][m], {}
            for (y, x), row in stream.items():
                wide = self.activation(f"context.activations.{m}", row)
                values = self.linear(f"context.upsamples.{m}", wide).reshape(factor, factor, -1)
                for i in range(factor):
                    for j in range(factor):
                        finer[y * factor + i, x * factor + j] = values[i, j]
            stream = finer
        return stream

    def attention(
        self, row: Array, at: Position, seen: dict[Position, tuple[Array, Array]]
    ) -> Array:
        heads = self.config["attention_heads"]
        mixed = self.linear(
            "attention.query_key_value", self.activation("attention.activation", row)
        )
        query, key, value = np.clip(mixed, -127, 127).reshape(3, heads, -1)
        step = at[1] + 2 * at[0]
        earlier = [kv for (y, x), kv in seen.items() if x + 2 * y < step]
        seen[at] = (key, value)
        if not earlier:
            return self.linear("attention.project", np.zeros(self.channels, np.int64))
        keys = np.stack([k for k, _ in earlier], 1)
        values = np.stack([v for _, v in earlier], 1)
        dots = (query[:, None] * keys).sum(-1)
        logits = (dots * self.get("attention.scale") + (1 << 23)) >> 24
        weights = self.exponential[np.minimum(logits.max(1, keepdims=True) - logits, 255)]
        total = weights.sum(1)[:, None]
        sums = (weights[:, :, None] * values).sum(1)
        return self.linear("attention.project", ((2 * sums + total) // (2 * total)).reshape(-1))

    def frequencies(self, logits: Array) -> Array:
        weights = self.exponential[np.minimum(logits.max() - logits, 255)]
        reciprocal = ((2**24 - len(logits)) << 20) // int(weights.sum())
        result = ((weights * reciprocal) >> 20) + 1
        result[0] += 2**24 - result.sum()
        return result

    def decode(
        self, payload: bytes, coarser: list[Array], quality: int, shape: tuple[int, int]
    ) -> Array:
        books, size = len(self.config["codebooks"]), self.config["head_channels"]
        blocks = self.config["blocks"]
        coder = RangeDecoder(payload)
        groups = self.config.get("groups") or [(1, 1)] * books
        used = sum(count for count, first in groups if first <= quality)
        # The first codebook after the group of each.
        after = [
            end
            for end, (count, _) in zip(accumulate(n for n, _ in groups), groups, strict=True)
            for _ in range(count)
        ]
        context = self.context(coarser, quality, shape)
        vectors: dict[Position, Array] = {}
        features: list[dict[Position, Array]] = [{} for _ in range(blocks)]
        attended: dict[Position, tuple[Array, Array]] = {}
        result = np.zeros((books, *shape), np.int64)
        for step in range(shape[1] + 2 * shape[0]):
            positions = [(y, step - 2 * y) for y in range(shape[0]) if 0 <= step - 2 * y < shape[1]]
            inputs = {}
            for at in positions:
                row = context[at] + self.over_taps("enter", vectors, at, CONE5)
                for n in range(blocks):
                    if self.config["attention_heads"] and n == blocks // 2:
                        row = row + self.attention(row, at, attended)
                    features[n][at] = self.activation(f"blocks.{n}.activation", row)
                    row = row + self.gated(f"blocks.{n}", features[n], at, CONE3)
                inputs[at] = self.linear("hidden", self.activation("activation", row))
            for g in range(used):
                for at in positions:
                    mine = inputs[at][g * size : (g + 1) * size]
                    active = self.activation(f"head_activations.{g}", mine)
                    index = coder.symbol(self.frequencies(self.linear(f"heads.{g}", active)))
                    result[(g, *at)] = index
                    if after[g] < books:
                        inputs[at][after[g] * size :] += self.get(f"earlier.{g}")[index]
            for at in positions:
                rows = [
                    self.get(f"embedding.{g}")[index]
                    for g, index in enumerate(result[(slice(used), *at)])
                ]
                vectors[at] = np.clip(sum(rows), -127, 127)
        return result


@pytest.fixture(scope="module")
def grouped_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grouped") / "grouped.safetensors"
    write_tiny_model(path, GROUPED)
    return path


@pytest.mark.parametrize(
    ("name", "quality", "size"),
    [
        ("tiny_model", 3, (64, 96)),
        ("tiny_model", 3, (33, 20)),
        *(("grouped_model", quality, (33, 20)) for quality in (1, 3, 4, 6, 7, 10)),
    ],
)
def test_a_decoder_written_from_the_document_reads_the_same_indices(
    name: str,
    quality: int,
    size: tuple[int, int],
    astronaut: Path,
    request: pytest.FixtureRequest,
) -> None:
    model = request.getfixturevalue(name)
    picture = image.load(astronaut)
    part = image.Image(picture.pixels[: size[0], : size[1]].copy(), grey=False)
    data = codec.compress(part, model=model, quality=quality).data
    contents = container.unpack(data)
    strides = [32, 16, 8] if name == "tiny_model" else [16, 8]
    found: list[Array] = []
    for level, stride in enumerate(strides):
        shape = tuple(-(-side // strides[0]) * strides[0] // stride for side in size)
        reader = Reader(model, level)
        payload = contents.sections[level][0]
        found.append(reader.decode(payload, found, quality, (shape[0], shape[1])))
    crc = 0
    for indices in found:
        crc = zlib.crc32(indices.transpose(1, 2, 0).astype("<u2").tobytes(), crc)
    assert crc == contents.indices_crc
