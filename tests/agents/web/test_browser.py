"""The pages in a real Chromium: every flow, keys, no script of a record's, both colour schemes."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from hostile import CORPUS, pages_of, write
from made_log import application, fill

from pilothouse.router.features.label import Label
from pilothouse.store.ledger import Ledger

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: it is a dev extra"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on the PATH (Debian: apt install chromium)"
)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The application on a port of its own."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with Ledger.open(tmp_path_factory.mktemp("log") / "log.db", code="made") as ledger:
        fill(ledger, 60)
        yield ledger


@pytest.fixture(scope="module")
def site(ledger: Ledger) -> Iterator[str]:
    with serving(application(ledger)) as address:
        yield address


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A tab; whatever goes wrong in it fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    tab = context.new_page()
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
    tab.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    yield tab
    context.close()
    assert not faults


def test_from_the_list_to_a_decision_by_keys(page: Any, site: str) -> None:
    page.goto(f"{site}/audit")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "text"
    page.keyboard.type("capital")
    page.keyboard.press("Enter")
    page.wait_for_url("**text=capital*")
    assert page.locator("#records tbody tr").count() >= 1
    assert all("capital" in text for text in page.locator("td.prompt").all_inner_texts())
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.locator("tr.here").count() == 1
    page.keyboard.press("Enter")
    page.wait_for_url("**/audit/records/*")
    assert page.locator("h2", has_text="Decision").is_visible()
    page.keyboard.press("u")
    page.wait_for_url("**/audit")
    page.keyboard.press("g")
    page.keyboard.press("o")
    page.wait_for_url("**/audit/overview")
    assert page.locator("svg.wide").count() == 2


def test_filters_by_click_live_in_the_url(page: Any, site: str) -> None:
    page.goto(f"{site}/audit")
    page.locator("#records .chip.abstained").first.click()
    page.wait_for_url("**status=abstained*")
    assert set(page.locator("#records .chip").all_inner_texts()) == {"abstained"}
    page.locator(".pill").click()
    page.wait_for_url("**/audit?")
    page.select_option("select[name=status]", "completed")
    page.fill("input[name=specialist]", "facts")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**specialist=facts*")
    page.reload()
    assert page.input_value("input[name=specialist]") == "facts"


def test_the_live_list_takes_new_records(page: Any, site: str, ledger: Ledger) -> None:
    page.goto(f"{site}/audit")
    before = page.locator("#records tbody tr").first.get_attribute("id")
    page.check("#live")
    (name,) = fill(ledger, 1, seed=99)
    page.wait_for_selector(f"#r{name}.fresh")
    assert page.locator("#records tbody tr").first.get_attribute("id") == f"r{name}" != before
    assert page.locator(f"#{before}.fresh").count() == 0


def test_what_if_and_diff_by_form(page: Any, site: str) -> None:
    page.goto(f"{site}/audit")
    page.get_by_role("link", name="What if").last.click()
    page.fill("input[name=threshold]", "0.95")
    page.get_by_role("button", name="Decide again").click()
    page.wait_for_url("**threshold=0.95*")
    assert "would have gone elsewhere" in page.locator(".tiles").inner_text()
    page.locator("table a.open").last.click()  # not the newest, which is compared with
    page.get_by_role("link", name="Compare").click()
    page.fill("input[name=right]", "last")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**right=last*")
    assert page.locator("table.diff tbody tr").count() > 0


@contextmanager
def answered(tiny: Any, prompt: str) -> Iterator[str]:
    """The address of a real record's page."""
    from pilothouse.agents.pilot import Pilot
    from pilothouse.agents.service.app import create_app

    with Ledger.open() as ledger, Pilot(tiny.family, ledger, tiny.engine) as pilot:
        record_id = pilot.ask(prompt, max_tokens=2).record_id
        app = create_app(pilot)
        app.state.desk.state = "ready"
        with serving(app) as address:
            yield f"{address}/audit/records/{record_id}"


def test_replay_by_its_button(page: Any, tiny: Any, home: Path) -> None:
    with answered(tiny, "What is 3 + 4?") as address:
        page.goto(address)
        page.get_by_role("button", name="Replay").click()
        page.wait_for_selector("#replayed .verdict")
        said = page.locator("#replayed").inner_text().split("\n")
        assert [line for line in said if line][:2] == ["REPLAY", "reproduced: the same decision"]


def test_tokens_are_tinted_and_stay_text(page: Any, tiny: Any, home: Path) -> None:
    prompt = "Spell <img src=x onerror=alert(1)> dog."
    with answered(tiny, prompt) as address:
        page.goto(address)
        page.get_by_label("Tint by").select_option("reading outside")
        page.get_by_role("button", name="Read again").click()
        page.wait_for_selector(".tokens .end")
        assert prompt in page.locator(".tokens").inner_text()
        assert page.locator(".tokens img").count() == 0
        assert page.locator(".tokens .for4, .tokens .against4").count() >= 1
        layer = min(sae.layer for sae in tiny.family.saes.values())
        page.get_by_label("or feature").fill(f"{layer}:0")
        page.get_by_role("button", name="Read again").click()
        page.wait_for_selector(".tokens .end")
        assert prompt in page.locator(".tokens").inner_text()


def test_no_record_runs_a_script(page: Any, tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "hostile.db", code=CORPUS[0]) as ledger:
        names = [write(ledger, text) for text in CORPUS]
        labels = {7: Label(feature=7, text=CORPUS[1], examples=CORPUS)}
        with serving(application(ledger, labels)) as address:
            for path in dict.fromkeys(path for name in names for path in pages_of(name)):
                page.goto(address + path)
                assert page.title().endswith("Pilothouse"), path
                assert page.evaluate("document.scripts.length") == 1
                assert page.url == address + path
            page.goto(f"{address}/audit")
            page.check("#live")  # rows that come in later are no code either
            late = write(ledger, CORPUS[1])
            page.wait_for_selector(f"#r{late}.fresh")
            assert page.title().endswith("Pilothouse")


def test_it_reads_without_scripts(browser: Any, site: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(f"{site}/audit")
    tab.locator("#records a.open").first.click()
    tab.wait_for_load_state()  # the page is read while its style sheet is still on its way
    assert tab.locator("table.bars").count() >= 1
    assert not tab.locator("#replay").is_visible()  # what needs a script is not offered
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_can_be_read(browser: Any, site: str, scheme: str) -> None:
    """Text against its background reaches the contrast of WCAG AA, 4.5 to 1."""
    context = browser.new_context(color_scheme=scheme)
    tab = context.new_page()
    tab.goto(f"{site}/audit")
    for selector in ("main h1", ".hint", "#records a.open", "#records thead th", ".chip.completed", "button"):
        front, back = tab.eval_on_selector(selector, COLOURS)
        assert contrast(front, back) >= 4.5, (selector, front, back)
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    tab.set_viewport_size({"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()


COLOURS = """(element) => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  let under = element, back = [0, 0, 0, 0];
  while (under && (back.length === 4 && back[3] === 0)) {
    back = numbers(getComputedStyle(under).backgroundColor);
    under = under.parentElement;
  }
  return [numbers(getComputedStyle(element).color), back];
}"""


def contrast(front: list[float], back: list[float]) -> float:
    """The contrast ratio of WCAG 2.2."""

    def light(colour: list[float]) -> float:
        parts = [c / 255 for c in colour[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    one, two = sorted((light(front), light(back)), reverse=True)
    return (one + 0.05) / (two + 0.05)
