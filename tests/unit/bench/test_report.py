from __future__ import annotations

import base64
import copy
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest
import reports

from vqcodec.bench import plots, report
from vqcodec.errors import CodecError

PSNR, MS_SSIM, SSIMULACRA2, LPIPS = reports.metrics()
SVG = "{http://www.w3.org/2000/svg}"


class Elements(HTMLParser):
    """Start tags of a page with their attributes, and the text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._open):
            self.text += data

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.tags if name in attributes]


def sparse() -> dict[str, Any]:
    """Results of one quality of vqcodec on one image, with nothing beside it."""
    results = reports.results(1)
    results["codecs"] = results["codecs"][:1]
    results["metrics"] = results["metrics"][:1]
    results["rows"] = results["rows"][:1]
    results["points"] = results["points"][:1]
    for part in results["rows"] + results["points"]:
        for name in ("encode_seconds", "decode_seconds", "encode_peak", "decode_peak"):
            part[name] = None
    results["rows"][0]["level_bits"] = None
    results["made"] |= {"commit": None, "changed": None}
    for name in ("missing", "comparisons", "above", "speed"):
        results[name] = []
    results["profile"] = None
    return results


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return reports.results()


@pytest.fixture(scope="module")
def page(results: dict[str, Any], request: pytest.FixtureRequest) -> str:
    view = reports.view(request.getfixturevalue("astronaut"))
    return report.page(results, [view], reports.published())


class TestPage:
    def test_loads_nothing(self, page: str) -> None:
        elements = Elements(page)
        policy = next(a["content"] for t, a in elements.tags if "http-equiv" in a)
        assert policy == (
            "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
            "script-src 'unsafe-inline'"
        )
        assert all(address.startswith("data:image/") for address in elements.attributes("src"))
        links = [a["href"] for t, a in elements.tags if t == "link"]
        assert links == ["data:,"]
        assert not re.search(r"url\((?!#)|@import", page)

    def test_names_with_markup_are_text(self, page: str) -> None:
        elements = Elements(page)
        assert reports.HOSTILE in elements.text
        assert "BPG <b>:" in elements.text
        assert "owner/name@0123abc:results/<kodak>.json" in elements.text
        assert not elements.attributes("onerror")
        scripts = [attributes.get("type") for tag, attributes in elements.tags if tag == "script"]
        assert scripts == ["application/json", None]

    def test_further_codecs_of_ours_are_named(self, results: dict[str, Any], page: str) -> None:
        changed = reports.with_natural(results)
        text = Elements(report.page(changed, [], reports.published())).text
        against = ("against what was measured here", "against published curves")
        for name in ("vqcodec hvq-photo-1", "vqcodec, natural"):
            assert all(f"{name}: {each}" in text for each in against)
        assert text.count("vqcodec, natural") > len(against) + len(changed["metrics"])
        assert "Against what was measured here" in Elements(page).text
        assert "vqcodec, natural" not in page

    def test_marks_are_json_that_ends_no_script(self, results: dict[str, Any]) -> None:
        changed = copy.deepcopy(results)
        changed["codecs"][1]["name"] = "</script><b>$x$"
        text = report.page(changed, [], {})
        found = re.search(r'<script type="application/json" id="marks">(.*?)</script>', text)
        assert found is not None
        names = {mark["name"] for mark in json.loads(found[1])["psnr"]["wide"]}
        assert "</script><b>$x$" in names

    def test_ids_are_unique_and_references_lead_to_them(self, page: str) -> None:
        elements = Elements(page)
        ids = elements.attributes("id")
        assert len(ids) == len(set(ids)) > 100
        references = [each for each in elements.attributes("href") if each.startswith("#")]
        references += elements.attributes("xlink:href")
        references += [f"#{each}" for each in re.findall(r"url\(#([^)]*)\)", page)]
        references += [f"#{each}" for each in elements.attributes("aria-controls")]
        labels = elements.attributes("aria-labelledby")
        references += [f"#{each}" for each in labels]
        assert len(references) > 100
        assert {reference[1:] for reference in references} <= set(ids)

    def test_says_what_was_measured(self, page: str) -> None:
        text = " ".join(Elements(page).text.split())
        for part in (
            "hvq-photo-1 on 2 images",
            "a807d37c0ffe",
            "9b759b759b759b75",
            "bpgenc is not installed; apt install bpg",
            "random weights: time only",
            "\N{MINUS SIGN}60.4 % +3.20 dB",
            "0.154\N{EN DASH}0.364 bpp, 26.90\N{EN DASH}30.97 dB",
            "no overlap",
            "vqcodec bench kodak/ --out report --profile --peer jpeg",
        ):
            assert part in text, part

    def test_without_views_is_small(self, results: dict[str, Any]) -> None:
        assert len(report.page(results, [], reports.published()).encode()) < 1_000_000

    def test_of_next_to_nothing(self) -> None:
        text = Elements(report.page(sparse(), [], {})).text
        assert "hvq-photo-1 on 1 image" in text
        assert report.DASH in text
        for absent in ("BD-rate is", "Missing", "Profile", "Published", "None", "nan", "Undefined"):
            assert absent not in text

    def test_a_family_without_rate_model_has_no_hierarchical_bits(
        self, results: dict[str, Any]
    ) -> None:
        bits = [{**row, "hierarchical": None} for row in results["profile"]["bits"]]
        changed = {**results, "profile": {**results["profile"], "bits": bits}}
        found = report.page(changed, [], {})
        assert "Marginal" in found
        assert ">Hierarchical<" not in found

    def test_a_null_profile_part_is_left_out(self, results: dict[str, Any]) -> None:
        changed = {**results, "profile": {"bits": [], "stages": [], "raster": [], "scaling": None}}
        assert "Where bits and time go" not in report.page(changed, [], {})


class TestWrite:
    def test_page_and_plots(self, tmp_path: Path, results: dict[str, Any]) -> None:
        (tmp_path / "report.html").write_text("an earlier one")
        report.write(tmp_path, results, [], reports.published())
        assert "hvq-photo-1 on 2 images" in (tmp_path / "report.html").read_text("utf-8")
        plot_files = sorted(path.name for path in (tmp_path / "plots").iterdir())
        assert plot_files == sorted(
            ["bits.png", "scaling.png", *(f"rd-{m['key']}.png" for m in results["metrics"])]
        )
        for name in plot_files:
            with PIL.Image.open(tmp_path / "plots" / name) as image:
                assert image.format == "PNG"
                assert len(image.convert("RGB").getcolors(1 << 20)) > 20  # something is drawn

    def test_plots_there_is_nothing_for(self) -> None:
        assert list(report.plot_files(sparse(), {})) == ["rd-psnr.png"]

    def test_folder_that_cannot_be_made(self, tmp_path: Path, results: dict[str, Any]) -> None:
        (tmp_path / "plots").write_bytes(b"")
        with pytest.raises(CodecError, match=r"plots: cannot be made .*choose another place"):
            report.write(tmp_path, results, [], {})


class TestNumbers:
    @pytest.mark.parametrize(
        ("value", "decimals", "text"),
        [
            (1.005, 1, "1.0"),
            (-3.14159, 2, "\N{MINUS SIGN}3.14"),
            (-0.001, 2, "0.00"),
            (1234567, 0, "1\N{NARROW NO-BREAK SPACE}234\N{NARROW NO-BREAK SPACE}567"),
            (None, 2, report.DASH),
            (math.nan, 2, report.DASH),
            (math.inf, 2, "\N{INFINITY}"),
        ],
    )
    def test_number(self, value: float | None, decimals: int, text: str) -> None:
        assert report.number(value, decimals) == text

    def test_signed(self) -> None:
        assert report.signed(0.25, 2) == "+0.25"
        assert report.signed(-0.25, 2) == "\N{MINUS SIGN}0.25"
        assert report.signed(0.001, 2) == report.signed(-0.001, 2) == "0.00"
        assert report.signed(20.0, 0) == "+20"
        assert report.signed(None) == report.DASH

    @pytest.mark.parametrize(
        ("value", "text"),
        [(0.00612, "6.12 ms"), (0.4444, "444 ms"), (0.9996, "1.00 s"), (12.345, "12.3 s"),
         (320.4, "320 s"), (None, report.DASH)],
    )  # fmt: skip
    def test_seconds(self, value: float | None, text: str) -> None:
        assert report.seconds(value).replace("\N{NO-BREAK SPACE}", " ") == text

    def test_memory(self) -> None:
        assert report.memory(612_345_678).replace("\N{NO-BREAK SPACE}", " ") == "612 MB"
        assert report.memory(2_712_345_678).replace("\N{NO-BREAK SPACE}", " ") == "2.71 GB"
        assert report.memory(None) == report.DASH

    def test_source(self) -> None:
        link = report.source("a/b@0123abc:c/<d>.json")
        assert 'href="https://github.com/a/b/blob/0123abc/c/&lt;d&gt;.json"' in link
        assert report.source("a paper <1>") == "a paper &lt;1&gt;"
        assert "<a" not in report.source("javascript:alert(1)")


class TestFindings:
    def test_each_measured_peer_from_the_weakest(self, results: dict[str, Any]) -> None:
        found = report.findings(results)
        peers = [name for _, name, *_ in reports.PEERS]
        # The invented BD-rates rise by 15 points a peer, the last of them from -0.4 to the sum.
        assert [finding.text.rpartition(" as ")[2] for finding in found[: len(peers)]] == peers
        first = found[0]
        assert first.figure == "\N{MINUS SIGN}60.4\N{NO-BREAK SPACE}%"
        assert first.detail.startswith("0.154 to 0.364 bpp; MS-SSIM")
        assert first.good

    def test_speed_beside_the_same_images_and_quality(self, results: dict[str, Any]) -> None:
        last = report.findings(results)[-1]
        assert last.figure == "12.0\N{MULTIPLICATION SIGN}"
        assert "cheng2020-anchor" in last.text
        changed = copy.deepcopy(results)
        for row in changed["rows"]:
            if row["codec"] == "vqcodec" and row["image"] != changed["speed"][0]["image"]:
                row["decode_seconds"] = 1e6
        assert report.findings(changed)[-1].figure == last.figure

    def test_no_overlap(self, results: dict[str, Any]) -> None:
        changed = copy.deepcopy(results)
        for comparison in changed["comparisons"]:
            if comparison["anchor"] == "JPEG":
                comparison |= {"bd_rate_percent": None, "overlap_bpp": None, "overlap_metric": None}
        found = [each for each in report.findings(changed) if each.text.endswith("and JPEG")]
        assert [(each.figure, each.good) for each in found] == [(report.DASH, None)]

    def test_worse_is_said_to_be(self, results: dict[str, Any]) -> None:
        changed = copy.deepcopy(results)
        changed["comparisons"][0]["bd_rate_percent"] = {"pchip": 12.0, "akima": 12.0}
        jpeg = next(each for each in report.findings(changed) if each.text.endswith("as JPEG"))
        assert jpeg.figure == "+12.0\N{NO-BREAK SPACE}%"
        assert jpeg.good is False


class TestCurves:
    def test_ours_first_then_measured_then_published(self, results: dict[str, Any]) -> None:
        found = plots.curves(results, reports.published(), PSNR)
        assert [curve.ours for curve in found] == [True] + [False] * 7
        assert [curve.measured for curve in found] == [True] * 6 + [False] * 2
        measured = found[:6]
        assert len({curve.colour for curve in measured}) == 6
        assert len({curve.marker for curve in measured}) == 6
        # A published curve of a codec that was measured too has its colour.
        assert found[7].name == "JPEG"
        assert found[7].colour == found[1].colour
        assert found[6].colour == "published"

    def test_a_curve_has_the_same_key_for_every_metric(self, results: dict[str, Any]) -> None:
        keys = [
            [(curve.key, curve.name) for curve in plots.curves(results, reports.published(), each)]
            for each in results["metrics"]
        ]
        assert keys[1:] == keys[:1] * 3

    def test_values(self, results: dict[str, Any]) -> None:
        changed = copy.deepcopy(results)
        changed["points"][0]["ms_ssim"] = None
        changed["points"][1]["ms_ssim"] = 0.9
        changed["points"][2]["ms_ssim"] = 1.0
        points = plots.curves(changed, {}, MS_SSIM)[0].points
        assert len(points) == 6
        assert points[0] == (changed["points"][1]["bpp"], pytest.approx(10.0), 2)

    def test_a_further_codec_of_ours(self, results: dict[str, Any]) -> None:
        found = plots.curves(reports.with_natural(results), reports.published(), PSNR)
        assert [curve.ours for curve in found] == [True] * 2 + [False] * 7
        assert [curve.label for curve in found[:3]] == ["vqcodec", "vqcodec, natural", "JPEG"]
        assert len({curve.colour for curve in found[:7]}) == 7

    def test_published_lpips_is_left_out(self, results: dict[str, Any]) -> None:
        rows = [{"bpp": 0.2, "psnr_db": 30.0, "ms_ssim": 0.9, "lpips": 0.1, "source": "s"}]
        assert plots.curves(results, {"HiFiC": rows}, MS_SSIM)[-1].points
        assert not plots.curves(results, {"HiFiC": rows}, LPIPS)[-1].points


def drawing(results: dict[str, Any], metric: dict[str, str], narrow: bool = False) -> Any:
    drawn = plots.curves(results, reports.published(), metric)
    figure, marks = plots.rate_distortion(drawn, "label <&>", narrow=narrow)
    return ElementTree.fromstring(plots.svg(figure, "x", "label <&>")), drawn, marks


class TestFigures:
    @pytest.mark.parametrize("narrow", [False, True])
    def test_svg_draws_every_curve_in_variables(
        self, results: dict[str, Any], narrow: bool
    ) -> None:
        root, drawn, _ = drawing(results, PSNR, narrow)
        assert root.get("aria-label") == "label <&>"
        lines = {e.get("data-curve") for e in root.iter() if (e.get("id") or "").endswith(".line")}
        assert lines == {curve.key for curve in drawn}
        labels = {e.get("data-curve") for e in root.iter() if (e.get("id") or "").endswith("label")}
        assert labels == (set() if narrow else lines)
        text = ElementTree.tostring(root, encoding="unicode")
        colours = set(re.findall(r"#[0-9a-f]{6}\b", text))
        assert not colours & {light for light, _ in plots.COLOURS.values()}
        assert set(re.findall(r"var\(--([\w-]+)\)", text)) <= {*plots.COLOURS, "font"}
        assert not list(root.iter(f"{SVG}style"))

    def test_light_colours_are_told_apart(self) -> None:
        assert len({light for light, _ in plots.COLOURS.values()}) == len(plots.COLOURS)

    def test_labels_do_not_overlap(self, results: dict[str, Any]) -> None:
        many = {
            f"codec {n}": [
                {"bpp": bpp, "psnr_db": 30 + 4 * math.log2(bpp / 0.3), "source": "s"}
                for bpp in (0.1, 0.3, 1.0)
            ]
            for n in range(20)
        }
        figure, _ = plots.rate_distortion(plots.curves(results, many, PSNR), "PSNR")
        axes = figure.axes[0]
        heights = sorted(
            text.get_position()[1] * axes.bbox.height
            for text in axes.texts
            if (text.get_gid() or "").endswith("label")
        )
        assert len(heights) == 26
        assert min(np.diff(heights)) > 10
        assert heights[0] >= -1e-9
        assert heights[-1] <= axes.bbox.height + 1e-9

    def test_marks_are_where_the_points_are(self, results: dict[str, Any]) -> None:
        root, _, marks = drawing(results, PSNR)
        _, _, width, height = map(float, root.get("viewBox").split())
        line = next(e for e in root.iter() if e.get("id") == "x-c0.line")
        placed = [(float(e.get("x")), float(e.get("y"))) for e in line.iter(f"{SVG}use")]
        ours = [mark for mark in marks if mark.curve == "c0"]
        assert len(ours) == len(placed) == 8
        for mark, (x, y) in zip(ours, placed, strict=True):
            assert mark.x * width == pytest.approx(x, abs=0.05)
            assert mark.y * height == pytest.approx(y, abs=0.05)
        assert [mark.quality for mark in ours] == list(range(1, 9))
        assert all(0 < mark.x < 1 and 0 < mark.y < 1 for mark in marks)

    def test_one_point_alone(self) -> None:
        drawn = plots.curves(sparse(), {}, PSNR)
        _, marks = plots.rate_distortion(drawn, "PSNR")
        assert len(marks) == 1

    def test_same_results_give_the_same_drawing(self, results: dict[str, Any]) -> None:
        first, second = (ElementTree.tostring(drawing(results, SSIMULACRA2)[0]) for _ in range(2))
        assert first == second

    def test_swatches_fit(self) -> None:
        for marker in "os^DvPX<>ph":
            corners = [tuple(map(float, c.split(","))) for c in plots.swatch(marker).split()]
            assert max(abs(side) for corner in corners for side in corner) == pytest.approx(4)

    def test_bit_shares_add_up_to_the_files(self, results: dict[str, Any]) -> None:
        shares = plots.bit_shares(results)
        points = [point for point in results["points"] if point["codec"] == "vqcodec"]
        assert len(shares) == len(points) == 8
        for share, point in zip(shares, points, strict=True):
            total = sum(share["levels"]) + share["rest"]
            assert total == pytest.approx(point["bpp"], abs=1e-4)
            assert share["rest"] == pytest.approx(8 * 120 / (768 * 512))


class TestEmbedded:
    @pytest.mark.parametrize("kind", ["webp", "png"])
    def test_images_are_lossless(self, kind: str, coffee: Path) -> None:
        with PIL.Image.open(coffee) as opened:
            pixels = np.asarray(opened.convert("RGB"))[:64, :64]
        if kind == "png":  # too long a side for WebP
            pixels = np.repeat(pixels[:1], 1, axis=0).repeat(400, axis=1)
        address = report.data_uri(np.ascontiguousarray(pixels))
        head, _, data = address.partition(",")
        assert head == f"data:image/{kind};base64"
        with PIL.Image.open(io.BytesIO(base64.b64decode(data))) as restored:
            assert np.array_equal(np.asarray(restored.convert("RGB")), pixels)
