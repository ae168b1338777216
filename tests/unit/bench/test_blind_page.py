"""The blind comparison in a real browser: a session with keys, its answers, what it saves."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import PIL.Image
import pytest
import reports
from browser import Page, needed, opened
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from vqcodec.bench import blind

pytestmark = needed

LEFT, RIGHT, DOWN, BACK = Keys.ARROW_LEFT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.BACKSPACE
PRESSED = {
    LEFT: "left", "a": "left", RIGHT: "right", "b": "right", DOWN: "none", Keys.SPACE: "none"
}  # fmt: skip


class Asking(Page):
    """A blind comparison that is open in the browser, with no answers from before."""

    def __init__(self, driver: Any, path: Path, width: int = 1280, dark: bool = False) -> None:
        super().__init__(driver, path, width, dark)
        self.run("localStorage.clear()")
        driver.refresh()

    def begin(self) -> None:
        self.one("#begin").click()
        self.wait()

    def wait(self) -> None:
        """Until there is something to judge, or all of it is over."""
        asked = "return shown !== null || !document.querySelector('#results').hidden"
        WebDriverWait(self.driver, 10).until(lambda _: self.run(asked))

    def press(self, *keys: str) -> None:
        """Presses keys, each when what the one before asked for is there."""
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()
            self.wait()

    def position(self) -> str:
        return str(self.one("#position").text)

    def seen(self) -> str:
        """All that a person may read or be read."""
        return str(
            self.run(
                "const given = ['alt', 'title', 'aria-label', 'value'].flatMap((name) =>"
                " [...document.querySelectorAll(`section:not([hidden]) [${name}]`)]"
                " .map((element) => element.getAttribute(name)));"
                "return [document.title, document.body.innerText, ...given].join(' ')"
            )
        )

    def sources(self) -> list[int]:
        """Numbers of the pictures that are shown left, in the middle and right."""
        return list(
            self.run(
                "return [...document.querySelectorAll('.frame img:not(.over)')]"
                ".map((image) => pictures.indexOf(image.src))"
            )
        )

    def saved(self, folder: Path) -> Any:
        behaviour = {"behavior": "allow", "downloadPath": str(folder)}
        self.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
        self.one("#save").click()
        WebDriverWait(self.driver, 10).until(
            lambda _: any(each.stat().st_size for each in folder.glob("*.json"))
        )
        (file,) = folder.glob("*.json")
        return json.loads(file.read_text("utf-8"))


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with opened() as driver:
        yield driver


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, coffee: Path) -> Path:
    path = tmp_path_factory.mktemp("blind") / blind.PAGE
    path.write_text(blind.page(reports.session(coffee, blind.CROP_SIDE)), "utf-8")
    return path


@pytest.fixture
def page(driver: Any, written: Path) -> Asking:
    return Asking(driver, written)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_all_of_it_fits_and_is_in_peace(driver: Any, written: Path, width: int, dark: bool) -> None:
    page = Asking(driver, written, width, dark)
    background = page.run("return getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(21, 24, 28)" if dark else "rgb(255, 255, 255)")

    def fits() -> bool:
        return bool(page.run("return document.documentElement.scrollWidth") <= width)

    assert fits()
    page.begin()
    assert fits()
    page.press("z")
    assert fits()
    page.press(*PRESSED)
    assert page.one("#results").is_displayed()
    for summary in page.all("summary"):
        summary.click()
    assert fits()
    assert page.messages() == []
    assert page.requests() == []


class TestASession:
    def test_what_is_pressed_is_what_is_saved(self, page: Asking, tmp_path: Path) -> None:
        page.begin()
        page.press(*PRESSED)
        saved = page.saved(tmp_path)
        asked = page.run("return session.comparisons")
        assert saved["format"] == blind.FORMAT
        assert saved["made"]["seed"] == 3
        assert saved["comparisons"] == len(asked) == 6
        assert [each["answer"] for each in saved["answers"]] == list(PRESSED.values())
        for given, comparison in zip(saved["answers"], asked, strict=True):
            assert given["image"] == reports.HOSTILE
            assert given["crop"] == {"top": 5, "left": 9, "height": 320, "width": 320}
            assert given["bpp"] == comparison["rate"]
            for side in ("left", "right"):
                assert given[side] == {
                    name: value for name, value in comparison[side].items() if name != "picture"
                }
            chosen = comparison.get(given["answer"])
            assert given["nearer"] == (chosen and chosen["codec"])
            assert given["seconds"] > 0
            assert (given["zoomed"], given["held"]) == (False, 0)

    def test_nothing_tells_whose_they_are_before_the_end(self, page: Asking) -> None:
        names = [*reports.CODECS, *reports.CODECS.values(), "vqcodec", "faithful", "natural"]

        def told() -> list[str]:
            text = page.seen().lower()
            return [name for name in names if name.lower() in text]

        assert told() == []
        page.begin()
        for n in range(6):
            assert page.position() == f"{n + 1} of 6"
            assert told() == []
            page.press(LEFT)
        assert set(reports.CODECS.values()) <= set(told())

    def test_undo_asks_again(self, page: Asking, tmp_path: Path) -> None:
        page.begin()
        first = page.sources()
        page.press(BACK)  # there is nothing to undo
        assert page.position() == "1 of 6"
        page.press(LEFT)
        assert page.position() == "2 of 6"
        assert page.sources() != first
        page.press(BACK)
        assert page.position() == "1 of 6"
        assert page.sources() == first
        page.press(RIGHT, DOWN, DOWN, DOWN, DOWN, DOWN)
        page.one("#back").click()
        page.wait()
        assert page.position() == "6 of 6"
        page.press(LEFT)
        answers = [each["answer"] for each in page.saved(tmp_path)["answers"]]
        assert answers == ["right", "none", "none", "none", "none", "left"]

    def test_answers_outlive_a_reload(self, page: Asking) -> None:
        page.begin()
        page.press(LEFT, RIGHT)
        page.driver.refresh()
        page.wait()
        assert page.position() == "3 of 6"
        page.press(DOWN, DOWN, DOWN, DOWN)
        before = page.one("#pairs").text
        page.driver.refresh()
        assert page.one("#pairs").text == before
        page.one("#again").click()
        page.driver.switch_to.alert.accept()
        page.wait()
        assert page.position() == "1 of 6"

    def test_without_storage_it_goes_on(self, page: Asking) -> None:
        refusal = "Object.defineProperty(window, 'localStorage', {get() { throw new Error(); }})"
        script = {"source": refusal}
        added = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
        page.driver.refresh()
        page.begin()
        page.press(LEFT, RIGHT)
        assert page.position() == "3 of 6"
        assert page.messages() == []
        page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)

    def test_it_may_end_early_and_go_on(self, page: Asking, tmp_path: Path) -> None:
        page.begin()
        page.press(LEFT, LEFT)
        page.one("#end").click()
        assert page.one("#summary").text.startswith("2 of 6 comparisons")
        assert len(page.saved(tmp_path)["answers"]) == 2
        page.one("#back").click()
        page.wait()
        assert page.position() == "3 of 6"

    def test_a_key_that_is_held_answers_once(self, page: Asking) -> None:
        page.begin()
        event = {"key": "ArrowLeft", "code": "ArrowLeft", "windowsVirtualKeyCode": 37}
        for repeated in (False, True, True):
            down = {"type": "keyDown", "autoRepeat": repeated, **event}
            page.driver.execute_cdp_cmd("Input.dispatchKeyEvent", down)
            page.wait()
        page.driver.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyUp", **event})
        assert page.position() == "2 of 6"

    def test_buttons_answer_and_leave_the_keys_alone(self, page: Asking, tmp_path: Path) -> None:
        page.begin()
        page.one("[data-answer=left]").click()
        page.wait()
        page.press(Keys.SPACE)  # no difference, whatever was clicked before
        page.run("document.querySelector('[data-answer=right]').focus()")
        page.press(Keys.SPACE, Keys.ENTER)  # the button that has the focus
        page.one("#end").click()
        answers = [each["answer"] for each in page.saved(tmp_path)["answers"]]
        assert answers == ["left", "none", "right", "right"]


class TestLooking:
    def shown(self, page: Asking) -> list[int]:
        """Numbers of the pictures on top, left, in the middle and right."""
        return list(
            page.run(
                "return [...document.querySelectorAll('.frame')].map((frame) =>"
                " [...frame.querySelectorAll('img')]"
                " .filter((image) => getComputedStyle(image).visibility === 'visible').at(-1))"
                " .map((image) => pictures.indexOf(image.src))"
            )
        )

    def test_the_original_takes_both_places_while_a_key_is_held(
        self, page: Asking, tmp_path: Path
    ) -> None:
        page.begin()
        left, original, right = before = self.shown(page)
        assert len({left, original, right}) == 3
        ActionChains(page.driver).key_down("o").perform()
        assert self.shown(page) == [original] * 3
        ActionChains(page.driver).key_up("o").perform()
        assert self.shown(page) == before
        page.press(LEFT)
        page.one("#end").click()
        assert page.saved(tmp_path)["answers"][0]["held"] == 1

    def test_the_original_takes_both_places_while_its_button_is_held(self, page: Asking) -> None:
        page.begin()
        before = self.shown(page)
        ActionChains(page.driver).click_and_hold(page.one("#hold")).perform()
        assert self.shown(page) == [before[1]] * 3
        assert page.one("#hold").get_attribute("aria-pressed") == "true"
        ActionChains(page.driver).release().perform()
        assert self.shown(page) == before

    @pytest.mark.parametrize("ratio", [1, 1.5, 2])
    @pytest.mark.parametrize("scale", [1, 2])
    def test_pixels_are_those_of_the_screen(
        self, driver: Any, written: Path, ratio: float, scale: int
    ) -> None:
        page = Asking(driver, written)
        size = {"width": 1280, "height": 900, "deviceScaleFactor": ratio, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        page.begin()
        if scale == 2:
            page.press("z")
        with PIL.Image.open(io.BytesIO(driver.get_screenshot_as_png())) as shot:
            screen = np.asarray(shot.convert("RGB"))
        for side in ("left", "right"):
            box, across, address = page.run(
                "const frame = document.querySelector(`[data-side=${arguments[0]}] .frame`);"
                "const image = frame.querySelector('img');"
                "const across = parseFloat(getComputedStyle(image).left);"
                "return [frame.getBoundingClientRect(), across, image.src]",
                side,
            )
            with PIL.Image.open(io.BytesIO(urlopen(address).read())) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            pixels = pixels.repeat(scale, 0).repeat(scale, 1)
            top, left = int(box["top"] * ratio), int(box["left"] * ratio)
            width, cut = int(box["width"] * ratio + 0.1), round(-across * ratio)
            assert width > 600 if scale == 2 else width == 320
            # A browser rounds either way, and may cut off a row at the edge.
            expected = pixels[2:-2, cut + 2 : cut + width - 2]
            places = [(top + down, left + right) for down in (1, 2, 3) for right in (1, 2, 3)]
            height, width = expected.shape[:2]
            assert any(
                np.array_equal(screen[y : y + height, x : x + width], expected) for y, x in places
            )

    def test_zoomed_pictures_move_together(self, page: Asking) -> None:
        lefts = "return [...document.images].map((image) => getComputedStyle(image).left)"
        page.begin()
        page.press("z")
        assert page.one("#cut").is_displayed()
        frame = page.one(".frame")
        ActionChains(page.driver).move_to_element_with_offset(frame, -200, 0).perform()
        first = page.run(lefts)
        ActionChains(page.driver).move_to_element_with_offset(frame, 200, 0).perform()
        second = page.run(lefts)
        ActionChains(page.driver).key_down(Keys.SHIFT).send_keys(LEFT).key_up(Keys.SHIFT).perform()
        third = page.run(lefts)
        assert page.position() == "1 of 6"
        for before, after in pairwise([first, second, third, first]):
            assert before != after
        for each in (first, second, third):
            assert len({each[0], each[1], each[3], each[4]}) == 1  # of A and of B


def test_results_are_counted_by_pair_and_rate(page: Asking, tmp_path: Path) -> None:
    page.begin()
    # Natural is always the nearer one, and of the two others neither is.
    for comparison in page.run("return session.comparisons"):
        sides = [comparison[side]["codec"] for side in ("left", "right")]
        natural = "vqcodec-natural" in sides
        page.press((LEFT, RIGHT)[sides.index("vqcodec-natural")] if natural else DOWN)
    assert [each.text for each in page.all("#pairs h2")] == [
        "vqcodec faithful and vqcodec natural",
        "vqcodec faithful and AVIF",
        "vqcodec natural and AVIF",
    ]
    rows = [each.text.split() for each in page.all("#pairs tbody tr")]
    assert [row[:5] for row in rows] == [
        ["0.12", "0", "0", "1", "0"],
        ["0.25", "0", "0", "1", "0"],
        ["all", "0", "0", "2", "0"],
        ["0.12", "0", "1", "0", "50"],
        ["0.25", "0", "1", "0", "50"],
        ["all", "0", "2", "0", "50"],
        ["0.12", "1", "0", "0", "100"],
        ["0.25", "1", "0", "0", "100"],
        ["all", "2", "0", "0", "100"],
    ]
    tallies = page.saved(tmp_path)["tallies"]
    last = tallies[-1]
    assert (last["first"], last["second"], last["bpp"]) == ("vqcodec-natural", "avif", None)
    # Wilson's interval of 2 of 2 is from n / (n + z**2) to 1.
    assert last["interval"] == pytest.approx([2 / (2 + 1.959964**2), 1])
    assert tallies[5]["interval"] == pytest.approx([0.5 - 0.405, 0.5 + 0.405], abs=1e-3)
    assert reports.HOSTILE in page.one("#results").get_attribute("textContent")
    assert page.run("return document.querySelectorAll('[onerror]').length") == 0
