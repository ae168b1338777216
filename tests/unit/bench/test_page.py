"""The report in a real browser: headless Chromium, driven through selenium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reports
from browser import Page as AnyPage
from browser import needed, opened
from selenium.webdriver.common.action_chains import ActionChains, ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from vqcodec.bench import report
from vqcodec.registry import DEFAULT_MODEL

pytestmark = needed


class Page(AnyPage):
    """A report that is open in the browser."""

    def transforms(self, view: int = 0) -> list[str]:
        """Of all images of a view, as drawn."""
        return list(
            self.run(
                "return [...document.querySelectorAll('.view')[arguments[0]]"
                ".querySelectorAll('img')].map((image) => image.style.transform)",
                view,
            )
        )


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with opened() as driver:
        yield driver


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, chelsea: Path, astronaut: Path) -> Path:
    folder = tmp_path_factory.mktemp("report")
    views = [reports.view(chelsea), reports.view(astronaut)]
    report.write(folder, reports.results(), views, reports.published())
    return folder / "report.html"


@pytest.fixture
def page(driver: Any, written: Path) -> Page:
    return Page(driver, written)


def test_the_page_of_the_packaged_weights_opens_in_peace(driver: Any) -> None:
    path = Path(__file__).parents[3] / "benchmarks" / "results" / DEFAULT_MODEL / "report.html"
    page = Page(driver, path)
    assert page.driver.title == f"vqcodec bench: {DEFAULT_MODEL} on 24 images"
    assert page.messages() == []
    assert page.requests() == []
    assert page.run("return [...document.images].every((image) => image.naturalWidth > 0)")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_opens_in_peace(driver: Any, written: Path, width: int, dark: bool) -> None:
    page = Page(driver, written, width, dark)
    assert page.driver.title == "vqcodec bench: hvq-photo-1 on 2 images"
    for summary in page.all("summary"):
        summary.click()
    assert page.messages() == []
    assert page.requests() == []
    images = page.run(
        "return [...document.images].map((image) => [image.complete, image.naturalWidth])"
    )
    assert len(images) == 8
    assert all(complete and width > 0 for complete, width in images)
    assert page.run("return document.documentElement.scrollWidth") <= width
    background = page.run("return getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(21, 24, 28)" if dark else "rgb(255, 255, 255)")
    drawn = [form for form in ("wide", "narrow") if page.one(f".plot .{form}").is_displayed()]
    assert drawn == (["narrow"] if width == 390 else ["wide"])


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        ("<script>nonsense()</script>", "nonsense is not defined"),
        ("<img src='https://example.invalid/a.png' alt=''>", "Content Security Policy"),
        ("<script src='https://example.invalid/a.js'></script>", "Content Security Policy"),
    ],
)
def test_a_harmed_page_does_not(
    driver: Any, written: Path, tmp_path: Path, harm: str, complaint: str
) -> None:
    harmed = tmp_path / "harmed.html"
    harmed.write_text(written.read_text("utf-8").replace("</main>", f"{harm}</main>"), "utf-8")
    messages = Page(driver, harmed).messages()
    assert any(complaint in message for message in messages), messages


def test_names_with_markup_run_nothing(page: Page) -> None:
    assert reports.HOSTILE in page.one("#viewer").text
    assert page.run("return document.querySelectorAll('[onerror]').length") == 0


class TestPlots:
    def displayed(self, page: Page) -> list[str]:
        return [
            panel.get_attribute("data-metric")
            for panel in page.all(".plot")
            if panel.is_displayed()
        ]

    def test_tabs(self, page: Page) -> None:
        assert self.displayed(page) == ["psnr"]
        page.one("#tab-lpips").click()
        assert self.displayed(page) == ["lpips"]
        assert page.one("#tab-lpips").get_attribute("aria-selected") == "true"
        assert page.one("#tab-psnr").get_attribute("aria-selected") == "false"
        page.one("#tab-lpips").send_keys(Keys.ARROW_RIGHT)
        assert self.displayed(page) == ["psnr"]
        page.one("#tab-psnr").send_keys(Keys.ARROW_RIGHT)
        assert self.displayed(page) == ["ms_ssim"]

    def shown(self, page: Page, selector: str) -> bool:
        # Selenium's own answer is no for what reaches out of an SVG's clipped plot.
        return bool(page.run("return arguments[0].getClientRects().length", page.one(selector)))

    def test_a_checkbox_shows_its_curve_in_every_plot(self, page: Page) -> None:
        line, other = "#panel-psnr .wide [data-curve=c1]", "#panel-psnr .wide [data-curve=c2]"
        box = page.one(".legend input[value=c1]")
        assert self.shown(page, line)
        box.click()
        assert not self.shown(page, line)
        assert self.shown(page, other)
        page.one("#tab-ms_ssim").click()
        assert not self.shown(page, line.replace("psnr", "ms_ssim"))
        assert self.shown(page, other.replace("psnr", "ms_ssim"))
        box.click()
        assert self.shown(page, line.replace("psnr", "ms_ssim"))

    def test_all_published_curves_at_once(self, page: Page) -> None:
        published, measured = "#panel-psnr .wide [data-curve=c6]", ".wide [data-curve=c0]"
        assert self.shown(page, published)
        page.one("[data-all='']").click()
        assert not self.shown(page, published)
        assert self.shown(page, measured)
        page.one("[data-all=on]").click()
        assert self.shown(page, published)

    def test_tooltip_at_the_pointer(self, page: Page) -> None:
        plot = page.bring("#panel-psnr")
        x, y = page.run(
            "const mark = marks.psnr.wide.filter((mark) => mark.curve === 'c0')[4];"
            "const box = arguments[0].querySelector('svg').getBoundingClientRect();"
            "return [box.left + mark.x * box.width, box.top + mark.y * box.height];",
            plot,
        )
        actions = ActionChains(page.driver)
        actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
        actions.perform()
        tooltip = page.one("#tooltip")
        assert tooltip.is_displayed()
        point = [p for p in reports.results()["points"] if p["codec"] == "vqcodec"][4]
        expected = f"quality 5, {point['bpp']:.3f} bpp, {point['psnr']:.2f} dB"
        assert tooltip.text.split("\n") == ["vqcodec hvq-photo-1", expected]
        ActionChains(page.driver).move_to_element(page.one("#plots-title")).perform()
        assert not tooltip.is_displayed()

    def test_arrow_keys_walk_the_points(self, page: Page) -> None:
        plot, tooltip = page.one("#panel-psnr"), page.one("#tooltip")
        plot.send_keys(Keys.ARROW_RIGHT)
        assert "quality 1," in tooltip.text
        plot.send_keys(Keys.ARROW_RIGHT)
        assert "quality 2," in tooltip.text
        plot.send_keys(Keys.ARROW_DOWN)
        assert tooltip.text.startswith("JPEG\n")
        plot.send_keys(Keys.ESCAPE)
        assert not tooltip.is_displayed()


class TestViewer:
    def test_wheel_zooms_all_versions_about_the_pointer(self, page: Page) -> None:
        page.bring(".view .panels")
        frame = page.one(".frame")
        before = page.transforms()
        other = page.transforms(1)
        ActionChains(page.driver).scroll_from_origin(
            ScrollOrigin.from_element(frame, 60, 30), 0, -120
        ).perform()
        after = page.transforms()
        assert len(after) == 4
        assert len(set(after)) == 1
        assert after != before
        assert page.transforms(1) == other
        scale, x, y = page.run(
            "const m = new DOMMatrix(getComputedStyle(arguments[0]).transform);"
            "return [m.a, m.e, m.f];",
            page.one(".frame img"),
        )
        width, height = frame.size["width"], frame.size["height"]
        assert scale > 1.2
        # What was under the pointer still is.
        assert (width / 2 + 60 - x) / scale == pytest.approx(width / 2 + 60, abs=1.5)
        assert (height / 2 + 30 - y) / scale == pytest.approx(height / 2 + 30, abs=1.5)

    def test_wheel_scrolls_the_page_when_all_is_in_view(self, page: Page) -> None:
        page.bring(".view .panels")
        before = page.run("return scrollY")
        origin = ScrollOrigin.from_element(page.one(".frame"))
        ActionChains(page.driver).scroll_from_origin(origin, 0, 200).perform()
        WebDriverWait(page.driver, 5).until(lambda _: page.run("return scrollY") > before)
        assert len(set(page.transforms())) == 1
        assert "scale(1)" in page.transforms()[0]

    def test_buttons_and_keys_zoom_and_move(self, page: Page) -> None:
        view = page.one(".view")
        start = page.transforms()
        page.one("[data-do=in]").click()
        larger = page.transforms()
        assert len(set(larger)) == 1
        assert "scale(1.5)" in larger[0]
        view.send_keys(Keys.ARROW_LEFT)
        moved = page.transforms()
        assert len(set(moved)) == 1
        assert moved != larger
        view.send_keys("-")
        assert page.transforms() == start
        view.send_keys("+++")
        assert "scale(3.375)" in page.transforms()[0]
        view.send_keys("0")
        assert page.transforms() == start

    def test_dragging_moves_all_and_stops_at_the_edge(self, page: Page) -> None:
        page.bring(".view .panels")
        page.one("[data-do=in]").click()
        before = page.transforms()
        frame = page.one(".frame")
        ActionChains(page.driver).drag_and_drop_by_offset(frame, 20, 10).perform()
        assert len(set(page.transforms())) == 1
        assert page.transforms() != before
        for _ in range(3):
            ActionChains(page.driver).drag_and_drop_by_offset(frame, 150, 90).perform()
        assert page.transforms()[0].startswith("translate(0%, 0%)")

    def test_pinching_zooms_all(self, driver: Any, written: Path) -> None:
        page = Page(driver, written, 390)
        page.bring(".frame")
        box = page.run("return arguments[0].getBoundingClientRect().toJSON()", page.one(".frame"))
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
        for apart, kind in ((20, "touchStart"), (30, "touchMove"), (60, "touchMove")):
            points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
            event = {"type": kind, "touchPoints": points}
            driver.execute_cdp_cmd("Input.dispatchTouchEvent", event)
        driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
        matrix = "return new DOMMatrix(getComputedStyle(arguments[0]).transform).a"
        assert len(set(page.transforms())) == 1
        assert page.run(matrix, page.one(".frame img")) == pytest.approx(3, rel=0.05)

    def test_pixels_show_when_large(self, page: Page) -> None:
        rendering = "return getComputedStyle(document.querySelector('.frame img')).imageRendering"
        assert page.run(rendering) == "auto"
        page.one(".view").send_keys("+++++")
        assert page.run(rendering) == "pixelated"

    def test_one_to_one(self, page: Page) -> None:
        page.one("[data-do=pixels]").click()
        box = page.run("return document.querySelector('.frame img').getBoundingClientRect().width")
        assert box == pytest.approx(451, abs=0.5)
        assert page.one(".view output").text == "100 %"

    def test_flipping_between_versions(self, page: Page) -> None:
        def shown() -> list[str]:
            return [
                panel.find_element(By.CSS_SELECTOR, "b").text
                for panel in page.one(".view").find_elements(By.CSS_SELECTOR, ".panel")
                if panel.is_displayed()
            ]

        view = page.one(".view")
        assert shown() == ["original", "JPEG", "WebP", "AVIF"]
        small = page.one(".frame").size["width"]
        view.send_keys("2")
        assert shown() == ["JPEG"]
        assert page.all(".frame")[1].size["width"] > 2 * small
        view.send_keys("4")
        assert shown() == ["AVIF"]
        page.one("[data-show='0']").click()
        assert shown() == ["original"]
        assert page.one("[data-show='0']").get_attribute("aria-pressed") == "true"
        view.send_keys("9")  # there is no such version
        assert shown() == ["original"]
        view.send_keys("s")
        assert len(shown()) == 4


def test_a_report_of_next_to_nothing(driver: Any, tmp_path: Path) -> None:
    results = reports.results(1)
    results |= {"metrics": [], "comparisons": [], "above": [], "speed": [], "profile": None}
    (tmp_path / "report.html").write_text(report.page(results, [], {}), "utf-8")
    page = Page(driver, tmp_path / "report.html")
    assert page.messages() == []
    assert page.one("h1").text == "hvq-photo-1 on 1 image"
