"""Images as tokens, and files of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from tiny import GROUPED, write_tiny_model

import vqcodec
from vqcodec import codec, container
from vqcodec.codec import compress, decompress
from vqcodec.errors import CodecError
from vqcodec.image import Image, load
from vqcodec.tokens import Tokenizer, Tokens

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    return Tokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("grouped") / "grouped.safetensors"
    write_tiny_model(path, GROUPED)
    return Tokenizer.from_pretrained(path)


def images(count: int, height: int, width: int) -> np.ndarray:
    random = np.random.default_rng(count)
    return random.integers(256, size=(count, height, width, 3), dtype=np.uint8)


def same(one: Tokens, other: Tokens) -> bool:
    alike = (one.header, one.extras) == (other.header, other.extras)
    return alike and all(
        a.dtype == b.dtype and np.array_equal(a, b)
        for a, b in zip(one.indices, other.indices, strict=True)
    )


def test_what_there_is_to_know(tokenizer: Tokenizer, tiny_model: Path) -> None:
    assert vqcodec.Tokenizer is Tokenizer
    assert tokenizer.levels == 3
    assert tokenizer.strides == (32, 16, 8)
    assert tokenizer.codebook_sizes == ((8, 16), (16, 16, 32), (16, 16))
    assert len(tokenizer.model_hash) == 64
    assert tokenizer.shapes(33, 1, 1) == ((2, 1, 2), (4, 2, 3), (8, 4, 2))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 31), (64, 64)])
@pytest.mark.parametrize("effort", [1, 2])
def test_batches_are_what_files_hold(
    tokenizer: Tokenizer, tiny_model: Path, height: int, width: int, effort: int
) -> None:
    batch = images(3, height, width)
    levels = tokenizer.encode(batch, 2, effort=effort)
    assert [each.shape for each in levels] == [
        (3, *shape) for shape in tokenizer.shapes(height, width, 2)
    ]
    assert {each.dtype for each in levels} == {np.dtype(np.uint8)}
    bits = tokenizer.bits(levels, 2)
    restored = tokenizer.decode(levels, 2, (height, width))
    for n, picture in enumerate(batch):
        file = compress(picture, quality=2, effort=effort, lossless="never", model=tiny_model)
        of_file = tokenizer.unpack(file)
        for own, other in zip(levels, of_file.indices, strict=True):
            np.testing.assert_array_equal(own[n], other)
        assert bits[n].tolist() == file.ideal_bits
        np.testing.assert_array_equal(restored[n], decompress(file.data, model=tiny_model).pixels)
    padded = tokenizer.decode(levels, 2)
    np.testing.assert_array_equal(padded[:, :height, :width], restored)
    assert padded.shape[1] % 32 == padded.shape[2] % 32 == 0


def test_kinds_of_pictures(tokenizer: Tokenizer) -> None:
    picture = PIL.Image.linear_gradient("L").resize((40, 24))
    one = tokenizer.encode(np.asarray(picture.convert("RGB"))[np.newaxis], 1)
    for batch in ([picture], [np.asarray(picture)], Image(np.asarray(picture.convert("RGB")))):
        for own, other in zip(one, tokenizer.encode(batch, 1), strict=True):
            np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("quality", [1, 4, 10])
def test_codebooks_that_a_quality_has(grouped: Tokenizer, quality: int) -> None:
    levels = grouped.encode(images(2, 32, 48), quality)
    assert [each.shape[-1] for each in levels] == list(grouped.books(quality))
    assert grouped.books(quality)[1] == {1: 2, 4: 4, 10: 6}[quality]
    file = grouped.pack(grouped.tokenize(images(1, 32, 48)[0], quality, tile=32))
    found = grouped.unpack(file)
    assert grouped.pack(found) == file
    assert [each.shape[-1] for each in found.indices] == list(grouped.books(quality))


@pytest.mark.parametrize("effort", [1, 3])
@pytest.mark.parametrize("tile", [None, 32])
def test_a_picture_with_all_that_belongs_to_it(
    tokenizer: Tokenizer, tiny_model: Path, chelsea: Path, effort: int, tile: int | None
) -> None:
    with PIL.Image.open(chelsea) as opened:
        picture = opened.convert("RGBA").crop((0, 0, 70, 45))
        picture.putalpha(PIL.Image.radial_gradient("L").resize(picture.size))
        exif = PIL.Image.Exif()
        exif[270] = "a cat"
        picture.info["exif"] = exif.tobytes()
    wanted = {"quality": 3, "effort": effort, "tile": tile}
    file = compress(picture, **wanted, lossless="never", model=tiny_model)
    tokens = tokenizer.tokenize(picture, **wanted)
    assert set(tokens.extras) >= {container.EXTRA_ALPHA}
    assert len(tokens.extras) > 1
    assert tokenizer.pack(tokens) == file.data
    assert same(tokenizer.unpack(file), tokens)
    assert tokenizer.bits_of(tokens) == file.ideal_bits
    restored = decompress(file.data, model=tiny_model)
    np.testing.assert_array_equal(tokenizer.restore(tokens).channels, restored.channels)
    assert tokenizer.restore(tokens).exif == restored.exif


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.vqz")), ids=lambda path: path.stem)
def test_golden_files_come_back_bit_for_bit(path: Path) -> None:
    data = path.read_bytes()
    header = container.peek(data)
    if header.lossless:
        return
    models = [*GOLDEN.glob("*.safetensors")]
    for model in models:
        try:
            tokenizer = Tokenizer.from_pretrained(model)
        except CodecError:  # it holds the indices of a file
            continue
        if tokenizer.model_hash.startswith(header.weights_hash.hex()):
            assert tokenizer.pack(tokenizer.unpack(data)) == data
            return
    raise AssertionError("its model is not there")


def test_calls_leave_torch_alone(tokenizer: Tokenizer) -> None:
    import torch

    with torch.inference_mode():
        levels = tokenizer.encode(images(1, 16, 16), 1, effort=2)
        assert torch.is_inference_mode_enabled()
    assert tokenizer.decode(levels, 1).shape == (1, 32, 32, 3)


class TestWhatCannotBe:
    def test_images(self, tokenizer: Tokenizer) -> None:
        with pytest.raises(CodecError, match="of equal size"):
            tokenizer.encode([images(1, 8, 8)[0], images(1, 8, 9)[0]])
        with pytest.raises(CodecError, match="of equal size"):
            tokenizer.encode([])
        with pytest.raises(CodecError, match="no quality 9"):
            tokenizer.encode(images(1, 8, 8), 9)

    def test_tokens(self, tokenizer: Tokenizer) -> None:
        levels = tokenizer.encode(images(1, 32, 32), 1)
        with pytest.raises(CodecError, match="are 3 arrays"):
            tokenizer.decode(levels[:2], 1)
        with pytest.raises(CodecError, match="have no 33 x 32"):
            tokenizer.decode(levels, 1, (33, 32))
        with pytest.raises(CodecError, match=r"level 1 is uint8 \[1, 2, 3\]"):
            tokenizer.decode([levels[0], levels[1][:, :1], levels[2]], 1)
        with pytest.raises(CodecError, match="none of its codebooks"):
            tokenizer.bits([levels[0] + 8, *levels[1:]], 1)
        with pytest.raises(CodecError, match="is float32"):
            tokenizer.decode([each.astype(np.float32) for each in levels], 1)

    def test_files(self, tokenizer: Tokenizer, grouped: Tokenizer, tiny_model: Path) -> None:
        plain = np.zeros((8, 8, 3), np.uint8)
        with pytest.raises(CodecError, match="is lossless"):
            tokenizer.unpack(codec.compress(plain, lossless="always"))
        file = codec.compress(plain, lossless="never", model=tiny_model)
        with pytest.raises(CodecError, match="was coded with tiny-test"):
            grouped.unpack(file)
        with pytest.raises(CodecError, match=r"not a \.vqz file"):
            tokenizer.unpack(b"nonsense")


def test_a_loaded_picture(tokenizer: Tokenizer, tiny_model: Path, astronaut: Path) -> None:
    picture = load(astronaut)
    file = tokenizer.pack(tokenizer.tokenize(picture, 2))
    assert file == compress(picture, quality=2, effort=1, lossless="never", model=tiny_model).data
