"""Damaged and hostile files through the whole of `decompress`: an error of ours or the image."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest

from vqcodec import codec, container
from vqcodec.errors import CodecError
from vqcodec.image import Image, load


def decompressed(data: bytes, model: Path, *, partial: bool = False) -> Image | None:
    """The image, or None after an error of one line."""
    message = ""
    try:
        return codec.decompress(data, model=model, partial=partial)
    except CodecError as error:
        message = str(error)
    assert message
    assert "\n" not in message
    return None


@dataclasses.dataclass(frozen=True)
class Sample:
    """A small file of two tiles and three levels, and what it restores to."""

    data: bytes
    model: Path
    restored: Image

    def refused_or_right(self, data: bytes, *, partial: bool = False) -> bool:
        """Whether a file is refused; where it is not, it must give this sample's image."""
        image = decompressed(data, self.model, partial=partial)
        if image is None:
            return True
        if partial:
            assert image.pixels.shape == self.restored.pixels.shape
        else:
            np.testing.assert_array_equal(image.pixels, self.restored.pixels)
        return False


@pytest.fixture(scope="module")
def sample(astronaut: Path, tiny_model: Path) -> Sample:
    pixels = load(astronaut).pixels[40:60, 50:90].copy()
    alpha = np.arange(800, dtype=np.uint8).reshape(20, 40)
    data = codec.compress(Image(pixels, grey=False, alpha=alpha), model=tiny_model, tile=32).data
    return Sample(data, tiny_model, codec.decompress(data, model=tiny_model))


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to three pieces changed, cut out, doubled, turned round or filled."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(changed) + 1)
        end = min(len(changed), start + rng.choice([1, 1, 2, 8, 100]))
        match rng.randrange(5):
            case 0:
                changed[start:end] = rng.randbytes(end - start)
            case 1:
                del changed[start:end]
            case 2:
                changed[start:start] = changed[start:end]
            case 3:
                changed[start:end] = changed[start:end][::-1]
            case 4:
                changed[start:end] = rng.choice([b"\0", b"\x80", b"\xff"]) * (end - start)
    return bytes(changed)


def test_truncation_at_every_byte(sample: Sample) -> None:
    for length in range(len(sample.data)):
        assert sample.refused_or_right(sample.data[:length])


def test_partial_of_every_truncation(sample: Sample) -> None:
    """The image of as many levels as are whole; decoding the same ones anew is left out."""
    images: dict[int, bytes] = {}
    for length in range(0, len(sample.data), 3):
        cut = sample.data[:length]
        try:
            levels = len(container.unpack(cut, partial=True).sections)
        except CodecError:
            assert sample.refused_or_right(cut, partial=True)
            continue
        if levels not in images:
            image = codec.decompress(cut, model=sample.model, partial=True)
            images[levels] = image.pixels.tobytes()
            usual = codec.decompress(sample.data, model=sample.model, levels=levels)
            assert images[levels] == usual.pixels.tobytes()
    assert set(images) == {1, 2, 3}


def test_every_byte_changed(sample: Sample) -> None:
    rng = random.Random(0)
    for position in range(len(sample.data)):
        for change in (1, 0x80, rng.randrange(1, 256)):
            changed = bytearray(sample.data)
            changed[position] ^= change
            assert sample.refused_or_right(bytes(changed))


@pytest.mark.parametrize("partial", [False, True])
def test_random_mutations(sample: Sample, partial: bool) -> None:
    rng = random.Random(int(partial))
    refused = sum(
        sample.refused_or_right(mutated(sample.data, rng), partial=partial) for _ in range(2000)
    )
    # Some pieces that are turned round or filled were like that before.
    assert refused > (1000 if partial else 1900)


def test_payloads_with_right_checksums(sample: Sample) -> None:
    """What passes every CRC but the last: wrong payloads run through the priors."""
    rng = random.Random(2)
    contents = container.unpack(sample.data)
    refused = 0
    for _ in range(60):
        sections = [list(level) for level in contents.sections]
        level = rng.randrange(len(sections))
        tile = rng.randrange(len(sections[level]))
        sections[level][tile] = rng.choice(
            [
                mutated(sections[level][tile], rng),
                rng.randbytes(4 * rng.randrange(8)),
                b"\xff" * rng.choice([4, 8, 64]),
                b"\0" * rng.choice([0, 1, 4, 64]),
            ]
        )
        changed = dataclasses.replace(contents, sections=tuple(map(tuple, sections)))
        refused += sample.refused_or_right(container.pack(changed))
    assert refused > 40


@pytest.mark.parametrize(
    "changes",
    [
        {"quality": 1},
        {"quality": 255},
        {"levels": 1},
        {"levels": 8},
        {"model_id": "another"},
        {"weights_hash": bytes(8)},
        {"width": 33},
        {"width": 64, "height": 32},
        {"height": 1},
        {"width": 1, "height": 33},
    ],
)
def test_headers_with_right_checksums(sample: Sample, changes: dict[str, int]) -> None:
    contents = container.unpack(sample.data)
    header = dataclasses.replace(contents.header, **changes)  # type: ignore[arg-type]
    sections = (contents.sections * 3)[: header.levels]
    data = container.pack(dataclasses.replace(contents, header=header, sections=sections))
    image = decompressed(data, sample.model)
    if image is None:
        return
    # The id is a name and the model is given by its file; all else must be noticed.
    assert set(changes) == {"model_id"}
    np.testing.assert_array_equal(image.pixels, sample.restored.pixels)


def test_alpha_with_right_checksums(sample: Sample) -> None:
    rng = random.Random(3)
    contents = container.unpack(sample.data)
    alpha = contents.extras[container.EXTRA_ALPHA]
    for _ in range(40):
        extras = {container.EXTRA_ALPHA: mutated(alpha, rng)}
        sample.refused_or_right(container.pack(dataclasses.replace(contents, extras=extras)))


@pytest.fixture(scope="module")
def lossless(tiny_model: Path) -> Sample:
    rng = np.random.default_rng(5)
    image = rng.integers(256, size=(9, 14, 4), dtype=np.uint8)
    data = codec.compress(image, lossless="always").data
    return Sample(data, tiny_model, codec.decompress(data))


def test_lossless_truncation_at_every_byte(lossless: Sample) -> None:
    for length in range(len(lossless.data)):
        assert lossless.refused_or_right(lossless.data[:length])
    whole = len(lossless.data) - 4  # the trailer says nothing of the pixels
    for length in range(len(lossless.data)):
        refused = lossless.refused_or_right(lossless.data[:length], partial=True)
        assert refused == (length < whole)


def test_lossless_every_byte_changed(lossless: Sample) -> None:
    rng = random.Random(0)
    for position in range(len(lossless.data)):
        for change in (1, 0x80, rng.randrange(1, 256)):
            changed = bytearray(lossless.data)
            changed[position] ^= change
            assert lossless.refused_or_right(bytes(changed))


def test_lossless_payloads_with_right_checksums(lossless: Sample) -> None:
    """Streams that were changed: an error of ours, or an image of the right size."""
    rng = random.Random(6)
    contents = container.unpack(lossless.data)
    ((payload,),) = contents.sections
    refused = 0
    for n in range(400):
        # Most changes leave the first bytes, so that a stream is decoded.
        kept = 5 * (n % 4 > 0)
        changed = payload[:kept] + mutated(payload[kept:], rng)
        data = container.pack(dataclasses.replace(contents, sections=((changed,),)))
        image = decompressed(data, lossless.model)
        refused += image is None
        assert image is None or image.pixels.shape == lossless.restored.pixels.shape
    assert refused > 150
