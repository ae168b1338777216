"""The gallery in a real browser: the divider, versions, zoom."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import reports
from browser import Page, needed, opened
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from vqcodec.bench import gallery
from vqcodec.bench.gallery import Picture, Settings, Version
from vqcodec.bench.report import data_uri

pytestmark = needed

WIDTH, HEIGHT = 300, 200
COLOURS = {"original": (200, 30, 30), "quality 1": (30, 160, 30), "quality 2": (30, 30, 200)}
SETTINGS = Settings([], (), (), None, None, "cpu", 1600)


def version(label: str, colour: tuple[int, int, int], size: int | None) -> Version:
    pixels = np.full((HEIGHT, WIDTH, 3), colour, np.uint8)
    bpp = None if size is None else 8 * size / (WIDTH * HEIGHT)
    psnr = None if label == "original" else 30.5
    return Version(label, size, bpp, psnr, data_uri(pixels))


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with opened() as driver:
        yield driver


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of three versions, one plain colour each; one of one version; hostile names."""
    versions = [version(label, colour, 4000) for label, colour in COLOURS.items()]
    pictures = [
        Picture(reports.HOSTILE, WIDTH, HEIGHT, "made smaller", versions),
        Picture("long-" * 30, WIDTH, HEIGHT, "", [version("restored", (9, 9, 9), 900)]),
    ]
    path = tmp_path_factory.mktemp("gallery") / "page.html"
    path.write_text(gallery.page(pictures, SETTINGS), "utf-8")
    return path


@pytest.fixture
def page(driver: Any, written: Path) -> Page:
    return Page(driver, written)


def seen(page: Page, share: float) -> str:
    """The version that is seen at a share of the first stage's width, below its tags."""
    box = page.run("return document.querySelector('.stage').getBoundingClientRect()")
    with PIL.Image.open(io.BytesIO(page.driver.get_screenshot_as_png())) as shot:
        x = int(box["left"] + share * box["width"])
        found = shot.convert("RGB").getpixel((x, int(box["top"] + 0.8 * box["height"])))
    (label,) = [label for label, colour in COLOURS.items() if colour == found]
    return label


def divided(page: Page) -> float:
    return float(page.one(".divider").get_attribute("aria-valuenow"))


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_all_of_it_fits_and_is_in_peace(driver: Any, written: Path, width: int, dark: bool) -> None:
    page = Page(driver, written, width, dark)
    background = page.run("return getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(21, 24, 28)" if dark else "rgb(255, 255, 255)")

    def fits() -> bool:
        return bool(page.run("return document.documentElement.scrollWidth") <= width)

    assert fits()
    for button in page.all("[data-zoom='4']"):
        button.click()
    page.one("summary").click()
    assert fits()
    assert page.run("return [...document.images].every((image) => image.naturalWidth === 300)")
    assert page.run("return document.querySelectorAll('[onerror]').length") == 0
    assert page.messages() == []
    assert page.requests() == []


@pytest.mark.parametrize("width", [390, 1280])
def test_a_pointer_drags_the_divider(driver: Any, written: Path, width: int) -> None:
    page = Page(driver, written, width)
    assert [seen(page, share) for share in (0.2, 0.8)] == ["original", "quality 1"]
    ActionChains(page.driver).drag_and_drop_by_offset(page.one(".divider"), 90, 0).perform()
    assert divided(page) == pytest.approx(80, abs=1)
    assert [seen(page, share) for share in (0.2, 0.7, 0.95)] == ["original"] * 2 + ["quality 1"]
    stage = page.one(".stage")
    ActionChains(page.driver).move_to_element_with_offset(stage, -60, 50).click().perform()
    assert divided(page) == pytest.approx(30, abs=1)
    assert seen(page, 0.5) == "quality 1"


def test_keys_move_the_divider(page: Page) -> None:
    divider = page.one(".divider")
    for key, expected in (
        (Keys.ARROW_LEFT, 49),
        (Keys.ARROW_RIGHT, 50),
        (Keys.PAGE_UP, 60),
        (Keys.HOME, 0),
        (Keys.ARROW_LEFT, 0),
        (Keys.END, 100),
    ):
        divider.send_keys(key)
        assert divided(page) == expected
    assert seen(page, 0.95) == "original"
    assert divider.get_attribute("aria-valuetext") == "100 % original"


def test_versions_are_chosen_by_button_key_and_list(page: Page) -> None:
    page.one("[data-version='2']").click()
    assert [seen(page, share) for share in (0.2, 0.8)] == ["original", "quality 2"]
    assert page.one(".tag.right").text == "quality 2"
    pressed = [each.get_attribute("aria-pressed") for each in page.all("button.version")]
    assert pressed == ["false", "false", "true"]
    page.one(".divider").send_keys("2")
    assert seen(page, 0.8) == "quality 1"
    page.one("option[value='2']").click()
    assert [seen(page, share) for share in (0.2, 0.8)] == ["quality 2", "quality 1"]
    page.one(".divider").send_keys("3")  # the same on both sides
    assert [seen(page, share) for share in (0.2, 0.8)] == ["quality 2"] * 2


def test_the_left_one_is_whole_while_a_key_is_held(page: Page) -> None:
    page.one(".divider").send_keys(Keys.HOME)
    assert seen(page, 0.5) == "quality 1"
    ActionChains(page.driver).key_down("o").perform()
    assert seen(page, 0.5) == "original"
    ActionChains(page.driver).key_up("o").perform()
    assert seen(page, 0.5) == "quality 1"


def test_zoomed_the_divider_stays_and_the_picture_moves(driver: Any, written: Path) -> None:
    page = Page(driver, written, 390)
    page.bring("[data-zoom='4']").click()
    page.bring(".stage")
    size = page.run("return document.querySelector('.canvas').getBoundingClientRect().width")
    assert size == 4 * WIDTH
    lefts = "return document.querySelector('.scroller').scrollLeft"
    before = page.run(lefts)
    assert before == pytest.approx((4 * WIDTH - 358) / 2, abs=20)  # the middle
    stage = page.one(".stage")
    ActionChains(driver).move_to_element_with_offset(
        stage, 100, 80
    ).click_and_hold().move_by_offset(-60, 0).release().perform()
    assert page.run(lefts) == before + 60
    assert divided(page) == 50
    assert [seen(page, share) for share in (0.2, 0.47, 0.55, 0.9)] == [
        *("original", "original"),
        *("quality 1", "quality 1"),
    ]


def test_one_version_has_nothing_to_divide(page: Page) -> None:
    second = page.all(".piece")[1]
    assert "900" in second.get_attribute("innerHTML")
    assert (
        page.run("return document.querySelectorAll('.piece')[1].querySelector('.divider')") is None
    )
