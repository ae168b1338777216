"""The blind comparison: what is compared at equal bytes, where, in which order, and the page."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import reports
from tiny import register, write_tiny_natural

from vqcodec.bench import blind
from vqcodec.bench.codecs import Encoded
from vqcodec.image import load
from vqcodec.tiling import Window
from vqcodec.weights_file import load as load_model

RATE = 0.316  # bits per pixel: the tiny model makes little else of the photograph


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    return load(Path(__file__).parents[2] / "fixtures" / "coffee.png").pixels[:128, :160]


@pytest.fixture(scope="module")
def session(astronaut: Path) -> blind.Session:
    return reports.session(astronaut)


@pytest.fixture(scope="module")
def page(session: blind.Session) -> str:
    return blind.page(session)


@dataclass(frozen=True)
class Peer:
    """A codec whose files have `quality` times `step` bytes, and restore grey."""

    step: int
    key: str = "peer"
    name: str = "Peer"
    qualities: tuple[int, ...] = (1, 400)
    highest: int = 400
    compression_ratios: bool = False

    def encode(self, pixels: np.ndarray, quality: int) -> Encoded:
        return Encoded(bytes(quality * self.step))

    def decode(self, data: bytes) -> np.ndarray:
        return np.full((128, 160, 3), 128, np.uint8)


class Ratio(Peer):
    """A codec whose qualities are ratios of bytes."""

    def __init__(self) -> None:
        super().__init__(1, compression_ratios=True)

    def encode(self, pixels: np.ndarray, quality: int) -> Encoded:
        return Encoded(bytes(pixels.size // quality))


def peers(*steps: int) -> list[Any]:
    return [Peer(step, f"peer-{step}", f"Peer {step}") for step in steps]


class TestPairs:
    @pytest.fixture
    def ours(self, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> blind.Ours:
        model = load_model(tiny_model)
        write_tiny_natural(tmp_path / "natural.safetensors", model)
        register(tmp_path / "natural.safetensors", model, monkeypatch)
        return blind.Ours(str(tiny_model), 1, ("faithful", "natural"))

    def test_every_synthesis_beside_every_peer_and_the_other(
        self, ours: blind.Ours, photograph: np.ndarray
    ) -> None:
        pairs, left_out = blind.pairs_at(photograph, RATE, peers(5, 4), ours)
        faithful, natural = "vqcodec-faithful", "vqcodec-natural"
        assert left_out == []
        assert [(first.codec, second.codec) for first, second in pairs] == [
            (faithful, natural),
            (faithful, "peer-5"),
            (natural, "peer-5"),
            (faithful, "peer-4"),
            (natural, "peer-4"),
        ]
        first, second = pairs[0]
        assert first.bytes == second.bytes
        assert not np.array_equal(first.pixels, second.pixels)
        assert pairs[1][1].setting == "quality 161"

    def test_bytes_are_equal(self, ours: blind.Ours, photograph: np.ndarray) -> None:
        pairs, _ = blind.pairs_at(photograph, RATE, peers(5), ours)
        assert len(pairs) == 3
        for first, second in pairs:
            assert 0.98 * second.bytes <= first.bytes <= second.bytes
            for each in (first, second):
                assert each.bpp == pytest.approx(RATE, rel=0.05)
                assert each.bpp == pytest.approx(8 * each.bytes / (128 * 160))

    def test_without_peers_both_syntheses_restore_one_file(
        self, ours: blind.Ours, photograph: np.ndarray
    ) -> None:
        ((first, second),), _ = blind.pairs_at(photograph, RATE, [], ours)
        assert first.bytes == second.bytes
        assert first.bpp == pytest.approx(RATE, rel=0.02)

    def test_a_peer_far_from_the_rate_is_left_out(
        self, ours: blind.Ours, photograph: np.ndarray
    ) -> None:
        pairs, left_out = blind.pairs_at(photograph, RATE, peers(2000), ours)
        assert [(first.codec, second.codec) for first, second in pairs] == [
            ("vqcodec-faithful", "vqcodec-natural")
        ]
        assert left_out == ["Peer 2000 comes no nearer than 0.781 bpp"]

    def test_a_rate_out_of_reach_is_left_out(
        self, ours: blind.Ours, photograph: np.ndarray
    ) -> None:
        pairs, left_out = blind.pairs_at(photograph, 0.03, peers(1), ours)
        assert pairs == []
        assert len(left_out) == 2
        assert "vqcodec beside Peer 1: 77 bytes" in left_out[0]
        assert all("out of reach" in reason for reason in left_out)

    def test_where_the_natural_synthesis_adds_nothing_there_is_one_of_ours(
        self, ours: blind.Ours, photograph: np.ndarray
    ) -> None:
        pairs, left_out = blind.pairs_at(photograph, 0.326, peers(3), ours)  # the highest quality
        assert [first.codec for first, _ in pairs] == ["vqcodec-faithful"]
        assert left_out == ["the natural synthesis makes the same as the faithful one"]

    def test_a_ratio_is_called_one(self, ours: blind.Ours, photograph: np.ndarray) -> None:
        peer: Any = Ratio()
        pairs, _ = blind.pairs_at(photograph, RATE, [peer], ours)
        assert pairs[1][1].setting == "ratio 76"  # 61,440 bytes of pixels to at most 809


class TestCrops:
    def test_are_inside_and_as_large_as_they_may_be(self) -> None:
        for height, width in ((512, 768), (320, 400), (100, 1000), (1, 1)):
            pixels = np.zeros((height, width, 3), np.uint8)
            for crop in blind.drawn_crops(pixels, 5, "0"):
                assert (crop.height, crop.width) == (min(320, height), min(320, width))
                assert 0 <= crop.top <= height - crop.height
                assert 0 <= crop.left <= width - crop.width

    def test_are_drawn_uniformly(self) -> None:
        pixels = np.zeros((322, 323, 3), np.uint8)
        drawn = [blind.drawn_crops(pixels, 1, str(seed))[0] for seed in range(600)]
        places = Counter((crop.top, crop.left) for crop in drawn)
        assert len(places) == 3 * 4
        assert all(25 < count < 80 for count in places.values())

    def test_of_a_seed_are_the_same(self) -> None:
        pixels = np.zeros((512, 768, 3), np.uint8)
        first = blind.drawn_crops(pixels, 2, "0 kodim01.png 0.12")
        assert first == blind.drawn_crops(pixels, 2, "0 kodim01.png 0.12")
        assert first[:1] == blind.drawn_crops(pixels, 1, "0 kodim01.png 0.12")
        assert first != blind.drawn_crops(pixels, 2, "1 kodim01.png 0.12")

    def test_of_a_small_image_are_one(self) -> None:
        whole = blind.drawn_crops(np.zeros((96, 128, 3), np.uint8), 3, "0")
        assert whole == [Window(0, 0, 96, 128)]


class TestOrder:
    @pytest.fixture
    def many(self, session: blind.Session) -> list[blind.Comparison]:
        return [replace(session.comparisons[0], rate=float(n)) for n in range(200)]

    def test_order_and_sides_are_random(self, many: list[blind.Comparison]) -> None:
        found = blind.shuffled(many, 0)
        assert sorted(each.rate for each in found) == [each.rate for each in many]
        assert 60 < sum(a.rate < b.rate for a, b in pairwise(found)) < 140
        sides = Counter((each.left.codec, each.right.codec) for each in found)
        assert len(sides) == 2
        assert min(sides.values()) > 60

    def test_they_are_of_the_seed(self, many: list[blind.Comparison]) -> None:
        def seen(seed: int) -> list[tuple[float, str]]:
            return [(each.rate, each.left.codec) for each in blind.shuffled(many, seed)]

        assert seen(1) == seen(1)
        assert seen(1) != seen(2)


class TestPage:
    def stored(self, page: str, name: str) -> Any:
        found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page)
        assert found is not None
        return json.loads(found[1])

    def test_pictures_are_lossless_and_there_once(self, session: blind.Session, page: str) -> None:
        pictures = self.stored(page, "pictures")
        assert len(pictures) == len(set(pictures)) == 4  # three restorations and the original

        def pixels(number: int) -> np.ndarray:
            data = base64.b64decode(pictures[number].partition(",")[2])
            with PIL.Image.open(io.BytesIO(data)) as picture:
                return np.asarray(picture.convert("RGB"))

        for asked, given in zip(
            self.stored(page, "session")["comparisons"], session.comparisons, strict=True
        ):
            assert np.array_equal(pixels(asked["original"]), given.original)
            for side in ("left", "right"):
                restoration = getattr(given, side)
                assert np.array_equal(pixels(asked[side]["picture"]), restoration.pixels)
                assert asked[side]["codec"] == restoration.codec
                assert asked[side]["bytes"] == restoration.bytes

    def test_names_stand_in_the_data_and_the_hidden_results_alone(self, page: str) -> None:
        before, hidden, rest = page.partition('<section id="results"')
        assert re.match(r"[^>]* hidden>", rest)
        scripts = rest.partition("</section>")[2]
        outside = re.sub(r"<script.*?</script>", "", scripts, flags=re.DOTALL)
        markup = re.sub(r"<style>.*?</style>", "", before, flags=re.DOTALL) + outside
        assert "Which is nearer to the original?" in markup
        for name in (*reports.CODECS, *reports.CODECS.values(), "vqcodec", "quality", "bpp"):
            assert name.lower() not in markup.lower(), name
        assert hidden

    def test_names_with_markup_are_text(self, page: str) -> None:
        assert reports.HOSTILE not in page
        assert self.stored(page, "session")["comparisons"][0]["image"] == reports.HOSTILE

    def test_pages_keep_their_answers_apart(self, session: blind.Session, page: str) -> None:
        own = self.stored(page, "session")["id"]
        assert re.fullmatch("[0-9a-f]{16}", own)
        assert self.stored(blind.page(session), "session")["id"] == own
        first = session.comparisons[0]
        darker = replace(first, original=first.original // 2)
        other = replace(session, comparisons=[darker, *session.comparisons[1:]])
        assert self.stored(blind.page(other), "session")["id"] != own
