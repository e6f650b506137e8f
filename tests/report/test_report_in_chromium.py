"""The pages in a real browser: no message, no request, every figure drawn, and a player that plays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import installed_chromium
from pages import FAULTY_FRAME, TIED_FRAME, copies, full_report

from strop.display import write_page, write_training_page

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")

# What is on a canvas: how many colours there are, 0 for one without pixels.
_COLOURS = """canvas => {
  if (!canvas.width || !canvas.height) return 0;
  // A copy that is made for reading: reading the page's own canvas twice makes Chromium warn.
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const pixels = new Uint32Array(copy.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return new Set(pixels).size;
}"""
_CANVAS = 'document.querySelector("#raster-canvas").toDataURL()'


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium: the one of STROP_CHROMIUM, of the PATH, or of Playwright."""
    found = installed_chromium()
    with sync_api.sync_playwright() as playwright:
        path = found or playwright.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("no Chromium: install one, name it in STROP_CHROMIUM, or run: playwright install chromium")
        # Chromium's sandbox needs rights that containers and root do not have; these pages are our own.
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A verification with a fault and a tie, a training, and a verification of something wide."""
    path = tmp_path_factory.mktemp("pages")
    write_page(full_report(), path)
    history = {
        "loss": [2.0, 1.0, 0.5],
        "val_loss": [1.5, 1.25, 0.75],
        "accuracy": [0.5, 0.75, 0.875],
        "sharpness_one": [0.0, 0.5, 1.0],
        "sharpness_two": [0.0, 0.0, 1.0],
    }
    write_training_page(history, path, title="digits", accuracy=0.9, units={"one": {"neurons": 8, "dead": 1}})
    frames = np.random.default_rng(6).integers(0, 256, (6, 200, 200, 3)).astype(np.uint8)
    write_page(
        import_module("strop.verification.verify").verify(
            copies((200, 200, 3), 3), frames, None, ["reference"], evidence=True
        ),
        path / "wide",
    )
    return path


@pytest.fixture
def visit(browser: Any, folder: Path) -> Iterator[Any]:
    """Return a function that opens a page; at the end there was no message, no error, no request but for the page."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def opened(name: str = "report.html", width: int = 1100, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 800}, offline=True, **options)
        context.set_default_timeout(120_000)  # a busy machine is no fault of the page
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((folder / name).as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
    assert len(asked) == len(contexts) > 0
    assert all(url.startswith("file://") for url in asked)


def overflow(page: Any) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


def choose(page: Any, index: int) -> None:
    page.locator("#frames label", has_text=f"#{index}").first.click()


def test_every_figure_is_drawn(visit: Any) -> None:
    page = visit()
    canvases = page.locator("canvas").all()
    assert len(canvases) >= 6
    assert all(canvas.evaluate(_COLOURS) >= 2 for canvas in canvases)
    assert page.locator("#raster-canvas").evaluate(_COLOURS) >= 4
    histograms = page.locator("#margins svg.chart").all()
    assert len(histograms) == 4
    for drawn in histograms:
        box = drawn.bounding_box()
        assert box["width"] > 200
        assert box["height"] > 100
        assert len(drawn.locator(".bars").first.get_attribute("d")) > 10
    # Behind the first population all weights are whole numbers or quarters: such sums are exact, there is no bound.
    assert [drawn.locator(".limit").count() for drawn in histograms] == [1, 0, 0, 0]
    told = [caption.inner_text() for caption in page.locator("#margins figcaption").all()]
    assert ["float32 rounds no sum here" in text for text in told] == [False, True, True, True]
    assert page.locator("#cost-table .bar").count() == 8
    assert "Failed: liar, layer code" in page.locator("#verdict").inner_text()


def test_a_failure_looks_like_one_and_the_page_opens_on_it(visit: Any) -> None:
    page = visit()
    assert f"Frame {FAULTY_FRAME};" in page.locator("#facts").inner_text()
    assert page.locator("#frames input:checked").count() == 1
    assert page.locator("#verdict .why dt").all_inner_texts() == ["Cause", "First", "Extent", "Origin", "Look"]
    colours = page.locator("#verdict").evaluate(
        "box => [getComputedStyle(box).borderColor, getComputedStyle(box).backgroundColor]"
    )
    red, wash = (tuple(int(part) for part in colour.strip("rgba()").split(",")[:3]) for colour in colours)
    assert red[0] > 2 * max(red[1:])
    assert wash[0] > max(wash[1:])


def test_the_player_plays_to_the_decision(visit: Any) -> None:
    page = visit()
    label = page.locator("#step-label")
    assert "Decided: class" in label.inner_text()
    page.locator("#start").click()
    assert label.inner_text() == f"Step 0 of 4: frame {FAULTY_FRAME} enters"
    assert page.locator("#decision .scores").is_hidden()
    page.evaluate(
        """() => {
          const label = document.querySelector("#step-label");
          window.seen = [label.textContent];
          new MutationObserver(() => window.seen.push(label.textContent)).observe(label, { childList: true });
        }"""
    )
    page.locator("#play").click()
    sync_api.expect(label).to_have_text(re.compile("^After"), timeout=120_000)
    seen = [text.split(":")[0] for text in page.evaluate("window.seen")]
    assert list(dict.fromkeys(seen)) == [*(f"Step {n} of 4" for n in range(5)), "After step 4"]
    assert "Decided: class" in page.locator("#decision").inner_text()
    assert page.locator("#decision .scores .won").count() == 1
    assert page.locator("#play-text").inner_text() == "Play"


def test_the_wave_moves_with_the_steps(visit: Any) -> None:
    page = visit()
    page.locator("#start").click()
    states = []
    for step in range(6):
        assert page.locator(".card.now").count() == 1
        assert page.locator(".card.now .state").inner_text() == "now"
        states.append((page.locator(".card.later").count(), page.evaluate(_CANVAS)))
        assert page.locator("#step").input_value() == str(step)
        if step < 5:
            page.locator("#forward").click()
    assert [waiting for waiting, _ in states] == [5, 4, 3, 2, 1, 0]
    assert len({picture for _, picture in states}) >= 5
    assert page.locator("#forward").is_disabled()


def test_play_can_be_paused(visit: Any) -> None:
    page = visit()
    page.locator("#start").click()
    page.locator("#play").click()
    page.locator("#play").click()
    before = page.locator("#step-label").inner_text()
    page.wait_for_timeout(1200)
    assert page.locator("#step-label").inner_text() == before


def test_everything_works_from_the_keyboard(visit: Any) -> None:
    page = visit()
    page.locator("#frames input").first.focus()
    page.keyboard.press("ArrowRight")
    assert "Frame 1;" in page.locator("#facts").inner_text()
    reached = []
    for _ in range(3):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached == ["play", "start", "back"]
    page.locator("#step").focus()
    page.keyboard.press("Home")
    assert "Step 0" in page.locator("#step-label").inner_text()
    page.keyboard.press("ArrowRight")
    assert "Step 1" in page.locator("#step-label").inner_text()
    page.locator("#play").focus()
    page.keyboard.press("Space")
    assert page.locator("#play-text").inner_text() == "Pause"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_faults_and_ties_are_told_and_marked(visit: Any) -> None:
    page = visit()
    card = page.locator(".card", has_text="code")
    pictures = []
    for index, words in (
        (FAULTY_FRAME, "liar: 1 fault, 0 ties, marked"),
        (TIED_FRAME, "liar: 0 faults, 1 tie, marked"),
    ):
        choose(page, index)
        assert words in page.locator("#facts").inner_text()
        # The mark is edged in the paper's colour, which nothing else on the canvas of a population has.
        pictures.append(card.locator("canvas").evaluate(_COLOURS))
    choose(page, 0)
    plain = card.locator("canvas").evaluate(_COLOURS)
    assert all(colours > plain for colours in pictures)


@pytest.mark.parametrize("name", ["report.html", "training.html", "wide/report.html"])
@pytest.mark.parametrize("width", [360, 768, 1400])
def test_no_width_scrolls_the_page_sideways(visit: Any, name: str, width: int) -> None:
    page = visit(name, width)
    assert overflow(page) <= 0
    if width == 360 and name == "report.html":
        # What is wider than the phone scrolls in its own box.
        boxes = page.locator(".scroll, #cards, .raster-box").evaluate_all(
            "all => all.filter(box => box.scrollWidth > box.clientWidth).map(box => getComputedStyle(box).overflowX)"
        )
        assert boxes
        assert set(boxes) == {"auto"}


def test_the_firing_card_comes_into_view_on_a_phone(visit: Any) -> None:
    page = visit(width=360, reduced_motion="reduce")
    page.locator("#start").click()
    for _ in range(3):
        page.locator("#forward").click()
    box = page.locator(".card.now").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360


def luminance(colour: str) -> float:
    channels = [int(part) / 255 for part in colour.strip("rgba()").split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrasts_meet_wcag_aa_in_both_schemes(visit: Any, scheme: str) -> None:
    page = visit(color_scheme=scheme)
    names = [
        "paper",
        "raised",
        "wash",
        "cell",
        "ink",
        "muted",
        "accent",
        "on-accent",
        "edge",
        "past",
        "alarm",
        "on-alarm",
        "alarm-wash",
    ]
    found = page.evaluate(
        """names => {
          const probe = document.body.appendChild(document.createElement("i"));
          return Object.fromEntries(names.map(name => {
            probe.style.color = `var(--${name})`;
            return [name, getComputedStyle(probe).color];
          }));
        }""",
        names,
    )
    assert (luminance(found["paper"]) < 0.1) == (scheme == "dark")
    for ground in ("paper", "raised", "wash"):
        for text in ("ink", "muted", "accent"):
            assert contrast(found[text], found[ground]) >= 4.5, (text, ground)
    assert contrast(found["on-accent"], found["accent"]) >= 4.5
    for text in ("ink", "alarm"):
        assert contrast(found[text], found["alarm-wash"]) >= 4.5
    assert contrast(found["on-alarm"], found["alarm"]) >= 4.5
    # Graphics and the edges of controls: 3 to 1.
    for drawn in ("accent", "past"):
        assert contrast(found[drawn], found["cell"]) >= 3.0, drawn
    assert contrast(found["edge"], found["paper"]) >= 3.0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == found["paper"]


def test_a_change_of_scheme_redraws_the_canvases(visit: Any) -> None:
    page = visit(color_scheme="light")
    before = page.evaluate(_CANVAS)
    page.emulate_media(color_scheme="dark")
    for _ in range(200):
        if page.evaluate(_CANVAS) != before:
            break
        page.wait_for_timeout(100)
    assert page.evaluate(_CANVAS) != before


def test_readers_without_scripts_see_a_frame_and_no_dead_buttons(visit: Any) -> None:
    page = visit(java_script_enabled=False)
    assert page.locator("#play").is_hidden()
    assert page.locator("#raster-figure").is_hidden()
    assert page.locator("#layer-table").is_visible()
    assert "Without JavaScript there is no player" in page.locator("#wave").inner_text()
    pictures = page.locator("noscript svg").all()
    assert len(pictures) == 4
    assert all(picture.bounding_box()["height"] > 20 for picture in pictures)


def test_the_training_page_is_drawn(visit: Any) -> None:
    page = visit("training.html")
    for chart in page.locator("#curves figure > svg").all():
        assert chart.bounding_box()["height"] > 100
        assert chart.locator("path.line").count() >= 1
        assert len(chart.locator("path.line").first.get_attribute("d")) > 10
    assert page.locator("#curves figure > svg").count() == 2
    assert page.locator("#sharpness path.area").count() == 2
    page.locator("summary").click()
    assert page.locator("#epoch-table tbody tr").count() == 3


def test_a_page_prints(visit: Any) -> None:
    page = visit()
    page.emulate_media(media="print")
    assert page.locator(".controls").is_hidden()
    assert page.locator("#cards").is_visible()
    assert len(page.pdf()) > 20_000
