"""The report in a real browser: no error, no request, keys, sorting, phone and dark; hostile text stays text."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.report.trained import PNG, train

from outlast.folder.layout import RunFolder
from outlast.report import page
from outlast.report.board import Board

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,  # a browser, and CI would have to install it
    pytest.mark.skipif(BROWSER is None, reason="needs Chromium, such as Debian's package chromium"),
]

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])  # tests run as root in CI
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """A report of one run that failed and continued, and one of two runs of which one is hostile."""
    root = tmp_path_factory.mktemp("runs")
    train(root, stop=17)
    folder = train(root)
    other = train(root, "other", total=20)
    record = json.loads(other.run.read_text()) | {"recipe": HOSTILE, "grade": HOSTILE}
    other.run.write_text(json.dumps(record))
    other.config.write_text(json.dumps({"values": {HOSTILE: HOSTILE}, "origins": {HOSTILE: HOSTILE}}))
    attempt = json.loads(other.attempt(1).read_text())
    attempt["end"] |= {"error": HOSTILE, "reason": "failed"}
    attempt["told"] = [HOSTILE, "\u202egnp.exe"]
    other.attempt(1).write_text(json.dumps(attempt))
    with other.journal.open("a") as file:
        for step in range(21, 60):
            names = {HOSTILE: step, "__proto__": 1.0, "constructor": 2.0, "toString": -step}
            file.write(json.dumps({"step": step, **names}) + "\n")
    for each in (folder, other):
        each.artifacts.mkdir(exist_ok=True)
        (each.artifacts / '"><img src=x onerror=alert(1)>.png').write_bytes(PNG)
    return {
        "one": page.report([folder.path], root / "one.html").path,
        "two": page.report([folder.path, other.path], root / "two.html").path,
    }


class Opened:
    """A page in a window, with what its console said and what it asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.said.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(".uplot canvas")

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).first.inner_text())

    def ended(self) -> None:
        assert self.said == []
        loose = self.page.evaluate("[...document.getElementById('page').childNodes].map((node) => node.nodeType)")
        assert set(loose) == {1}, "a word such as null stands in the page"
        assert [url for url in self.asked if not url.startswith(("file:", "data:"))] == []
        self.context.close()


def test_keys_read_and_zoom_a_curve(browser, pages) -> None:
    opened = Opened(browser, pages["one"])
    plot = opened.page.locator(".plot").first
    readout = opened.page.locator("figure output").first
    assert "latest 0.033333 at step 30" in readout.inner_text()
    assert "loss over steps" in plot.get_attribute("aria-label")
    for _ in range(40):  # from the top of the page, with the keyboard alone
        opened.page.keyboard.press("Tab")
        if plot.evaluate("node => node === document.activeElement"):
            break
    else:
        raise AssertionError("the curve is not reached by Tab")
    opened.page.keyboard.press("Home")
    assert readout.inner_text() == "step 1 · 1"
    opened.page.keyboard.press("ArrowRight")
    assert readout.inner_text() == "step 2 · 0.5"
    opened.page.keyboard.press("End")
    assert readout.inner_text() == "step 30 · 0.033333"
    before = plot.screenshot()
    opened.page.keyboard.press("+")
    assert plot.screenshot() != before
    opened.page.keyboard.press("Escape")
    assert "latest" in readout.inner_text()
    plot.hover(position={"x": 200, "y": 100})
    assert readout.inner_text().startswith("step ")
    opened.ended()


def test_smoothing_log_axis_and_filter(browser, pages) -> None:
    opened = Opened(browser, pages["one"])
    plot = opened.page.locator(".plot").first
    plain = plot.screenshot()
    opened.page.locator("#smoothing").fill("0.9")
    smooth = plot.screenshot()
    assert smooth != plain
    plot.focus()
    opened.page.keyboard.press("End")
    assert "smoothed" in opened.text("figure output")
    opened.page.locator("#log").check()
    assert plot.screenshot() != smooth
    opened.page.locator("#filter").fill("VAL")
    assert opened.page.locator("figure:has(.plot) h3").all_inner_texts() == ["val"]
    opened.page.locator("#filter").fill("no such")
    assert opened.page.get_by_text("No metric has such a name.").is_visible()
    opened.ended()


def test_sorting_and_hiding_of_runs(browser, pages) -> None:
    opened = Opened(browser, pages["two"])
    rows = opened.page.locator("table").first.locator("tbody tr")
    assert [row.split()[0] for row in rows.all_inner_texts()] == ["r", "other"]
    head = opened.page.locator("table").first.get_by_role("button", name="run", exact=True)
    head.focus()
    opened.page.keyboard.press("Enter")
    assert [row.split()[0] for row in rows.all_inner_texts()] == ["other", "r"]
    assert opened.page.locator("th[aria-sort=ascending]").count() == 1
    opened.page.get_by_role("button", name="step", exact=True).first.click()
    assert [row.split()[0] for row in rows.all_inner_texts()] == ["r", "other"]
    plot = opened.page.locator(".plot").first
    both = plot.screenshot()
    opened.page.locator("table").first.get_by_role("checkbox").first.uncheck()
    assert plot.screenshot() != both
    opened.ended()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_hostile_text_is_text_at_every_width(browser, pages, width: int, scheme: str) -> None:
    opened = Opened(browser, pages["two"], viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert opened.page.title() == "r, other · outlast"
    for node in opened.page.locator("details").all():
        node.locator("summary").first.click()
    assert opened.page.locator("img").count() == 2
    assert opened.page.locator("script").count() == 3
    assert opened.page.locator("h3", has_text="onerror").count() >= 1
    body = opened.page.locator("body").inner_text()
    assert HOSTILE in body
    assert "\\u202egnp.exe" in body
    assert "undefined" not in body
    assert "[object" not in body
    assert "NaN" not in body
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    opened.ended()


def test_a_script_that_slipped_in_would_not_run(browser, pages, tmp_path: Path) -> None:
    text = (
        pages["one"]
        .read_text()
        .replace(
            "</main>", "</main><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
        )
    )
    slipped = tmp_path / "x.html"
    slipped.write_text(text)
    opened = Opened(browser, slipped)
    assert opened.page.title() == "r · outlast"
    assert any("Content Security Policy" in said for said in opened.said)
    opened.context.close()


def test_a_run_that_logged_nothing(browser, tmp_path: Path) -> None:
    folder = train(tmp_path, stop=1)
    folder.journal.write_text("")
    target = page.report([RunFolder(folder.path).path], tmp_path / "x.html").path
    context = browser.new_context()
    window = context.new_page()
    said: list[str] = []
    window.on("pageerror", lambda error: said.append(str(error)))
    window.goto(target.as_uri())
    assert window.get_by_text("Nothing was logged yet.").is_visible()
    assert said == []
    context.close()


def test_a_page_of_the_board_follows_a_run(browser, tmp_path: Path) -> None:
    folder = train(tmp_path)
    board = Board(tmp_path)
    thread = threading.Thread(target=board.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    context = browser.new_context()
    window = context.new_page()
    said: list[str] = []
    window.on("console", lambda message: said.append(message.text))
    window.on("pageerror", lambda error: said.append(str(error)))
    try:
        window.goto(board.address)
        assert board.token not in window.url
        window.get_by_text("Live, changed at").wait_for()
        window.get_by_text("latest 0.033333 at step 30").wait_for()
        head = window.locator("table", has_text="metric").get_by_role("button", name="metric", exact=True)
        head.click()
        head.click()
        with folder.journal.open("a") as file:
            file.write('{"step": 31, "loss": 0.125}\n')
        window.get_by_text("latest 0.125 at step 31").wait_for()
        assert window.locator("th[aria-sort=descending]").count() == 1  # as the reader left it
        assert head.evaluate("node => node === document.activeElement")
        train(tmp_path, "b", total=3)
        window.locator("a", has_text="b").first.wait_for()
        window.locator("a", has_text="b").first.click()
        window.wait_for_url("**/?runs=b")
        assert said == []
        board.stop()
        window.get_by_text("The connection is lost").wait_for()
    finally:
        board.ended.set()
        thread.join(0.1)
        context.close()


def test_what_each_attempt_spent_of_its_budget_and_of_the_quota(browser, tmp_path: Path) -> None:
    train(tmp_path, stop=17)
    folder = train(tmp_path)
    for number, budget, quota, seconds in ((1, 7200.0, "GPU", 5400.0), (2, None, "GPU", 3600.0)):
        record = json.loads(folder.attempt(number).read_text())
        record["session"] = {"budget": budget, "reserve": None, "quota": quota}
        record["end"]["seconds"] = seconds
        folder.attempt(number).write_text(json.dumps(record))
    opened = Opened(browser, page.report([folder.path], tmp_path / "page.html").path)
    text = opened.text("#page")
    assert "2h00m, 75 % spent" in text
    assert "1h30m GPU" in text
    assert "2h30m of GPU quota while these attempts lasted" in text
    opened.ended()
