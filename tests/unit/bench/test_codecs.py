"""The codecs that are measured: they restore, they follow their qualities, they say what lacks."""

from __future__ import annotations

import mmap
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vqcodec.bench import codecs, coding, cost
from vqcodec.codec import compress
from vqcodec.errors import CodecError
from vqcodec.image import load

PRESENT, ABSENT = codecs.chosen_peers(list(codecs.PEERS), 1)


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    return load(Path(__file__).parents[2] / "fixtures" / "coffee.png").pixels[:128, :160]


def test_pillow_brings_its_own_peers() -> None:
    assert {"jpeg", "webp", "avif", "jpeg2000"} <= {peer.key for peer in PRESENT}


@pytest.mark.parametrize("peer", PRESENT, ids=lambda peer: peer.key)
def test_qualities_rise_in_rate_and_restore(
    peer: codecs.PillowCodec, photograph: np.ndarray
) -> None:
    peer.prepare()
    chosen = (peer.qualities[0], peer.qualities[-1])
    coded = [peer.encode(photograph, quality).data for quality in chosen]
    assert len(coded[0]) < len(coded[1])
    restored = [peer.decode(data) for data in coded]
    errors = [np.abs(each.astype(int) - photograph).mean() for each in restored]
    assert restored[0].shape == photograph.shape
    assert errors[1] < errors[0]
    assert errors[1] < 5


@pytest.mark.parametrize("peer", PRESENT, ids=lambda peer: peer.key)
def test_matched_files_are_not_larger(peer: codecs.PillowCodec, photograph: np.ndarray) -> None:
    peer.prepare()
    quality, found = codecs.matched(peer, photograph, 4000)
    assert 1000 < len(found) <= 4000
    assert found == peer.encode(photograph, quality).data
    if not peer.compression_ratios:
        assert len(peer.encode(photograph, quality + 1).data) > 4000


def test_matched_gives_the_lowest_quality_if_all_are_larger(photograph: np.ndarray) -> None:
    jpeg = codecs.PEERS["jpeg"]
    quality, found = codecs.matched(jpeg, photograph, 10)
    assert quality == min(jpeg.qualities)
    assert len(found) > 10


def test_an_absent_peer_is_named_with_what_to_do() -> None:
    absent = replace(codecs.PEERS["jxl"], plugin="no_such_plugin")
    why = codecs.missing(absent)
    assert why is not None
    assert (why.name, why.reason) == ("JPEG XL", "no_such_plugin is not installed")
    assert "pip install" in why.remedy


def test_an_unknown_peer() -> None:
    with pytest.raises(CodecError, match="peer 'gif' is not known; there are jpeg"):
        codecs.chosen_peers(["gif"], 1)


def test_threads_reach_those_that_take_them() -> None:
    present, _ = codecs.chosen_peers(["jpeg", "avif", "avif"], 3)
    assert [peer.threads for peer in present] == [None, ("max_threads", 3)]


def test_vqcodec_with_some_qualities(tiny_model: Path, photograph: np.ndarray) -> None:
    codec = codecs.vqcodec(str(tiny_model), [3, 1, 3], 1)
    assert codec.qualities == (1, 3)
    assert codec.name == "vqcodec tiny-test"
    encoded = codec.encode(photograph, 3)
    assert encoded.level_bits is not None
    assert sum(encoded.level_bits) / 8 < len(encoded.data) < sum(encoded.level_bits) / 8 + 200
    assert codec.decode(encoded.data).shape == photograph.shape
    assert codecs.vqcodec(str(tiny_model), [], 1).qualities == (1, 2, 3)
    with pytest.raises(CodecError, match="no quality 9"):
        codecs.vqcodec(str(tiny_model), [9], 1)


def test_a_variant_restores_the_same_indices_otherwise(
    tiny_model: Path, tiny_synthesis: Path, photograph: np.ndarray
) -> None:
    variant = codecs.Variant.of(str(tiny_synthesis))
    main = codecs.vqcodec(str(tiny_model), [2], 1)
    further = codecs.vqcodec(str(tiny_model), [2], 1, variant=variant, main=False)
    assert (main.key, main.name) == ("vqcodec", "vqcodec tiny-test")
    assert (further.key, further.name) == ("vqcodec-smooth", "vqcodec, smooth")
    assert (main.settings, further.settings) == ("effort 5", "effort 5, smooth")
    data = main.encode(photograph, 2).data
    assert further.encode(photograph, 2).data == data
    assert not np.array_equal(main.decode(data), further.decode(data))
    with pytest.raises(CodecError, match="tiny-test has no natural synthesis"):
        codecs.vqcodec(str(tiny_model), [2], 1, variant=codecs.Variant("natural"))


def test_a_variant_is_a_tune(tiny_model: Path, photograph: np.ndarray) -> None:
    variant = codecs.Variant.of("ssimulacra2")
    main = codecs.vqcodec(str(tiny_model), [2], 1)
    further = codecs.vqcodec(str(tiny_model), [2], 1, variant=variant, main=False)
    assert (further.key, further.settings) == ("vqcodec-ssimulacra2", "effort 5, ssimulacra2")
    expected = compress(photograph, quality=2, tune="ssimulacra2", model=tiny_model).data
    assert further.encode(photograph, 2).data == expected != main.encode(photograph, 2).data
    with pytest.raises(CodecError, match="no tune 'sharp'"):
        codecs.vqcodec(str(tiny_model), [2], 1, variant=codecs.Variant.of("sharp"))


def test_costs_are_of_the_action() -> None:
    def action() -> int:
        with mmap.mmap(-1, 64 << 20) as pages:  # not what the allocator has left over
            pages[:: mmap.PAGESIZE] = bytes(len(pages) // mmap.PAGESIZE)
            return len(pages)

    result, large = cost.measured(action, 3)
    assert result == 64 << 20
    assert large.seconds > 0
    _, small = cost.measured(lambda: None, 1)
    if large.peak is not None and small.peak is not None:
        assert large.peak - small.peak > 32 << 20


def test_a_codec_that_fails_is_a_codec_error(tmp_path: Path, astronaut: Path) -> None:
    broken = replace(codecs.PEERS["jpeg"], options={"qtables": "nonsense"})
    with pytest.raises(CodecError, match="JPEG cannot encode at quality 5"):
        coding.encode(broken, astronaut, 5, tmp_path / "a", 1)


def test_processes_of_peers_load_no_torch(environment: dict[str, str], tmp_path: Path) -> None:
    program = "import sys, vqcodec.bench.coding; assert 'torch' not in sys.modules"
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, timeout=60
    )


def test_jpeg_xl_of_a_tiny_image_is_no_failure() -> None:
    if "jxl" not in {peer.key for peer in PRESENT}:
        pytest.skip("pillow-jxl-plugin belongs to the extra `peers`, which the tests do without")
    tiny = np.zeros((1, 1, 3), np.uint8)
    codecs.PEERS["jxl"].prepare()
    quality, _ = codecs.matched(codecs.PEERS["jxl"], tiny, 10_000)
    assert quality == codecs.PEERS["jxl"].highest


def test_a_damaged_file_is_a_codec_error() -> None:
    with pytest.raises(CodecError, match="JPEG cannot decode its own file"):
        codecs.PEERS["jpeg"].decode(b"no picture")
