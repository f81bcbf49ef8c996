"""The catalogue of methods in a real browser: its filter, by mouse and by keyboard, and the page without it."""

import re
from pathlib import Path
from typing import Any

import markdown
import pytest

from .blocks import ROOT

DOCS = ROOT / "docs"
SOURCE = (DOCS / "methods" / "index.md").read_text(encoding="utf-8")
# Name of every method with its hooks, from the source of the page.
METHODS = {
    name: re.findall(r"`(\w+)`", hooks)
    for name, hooks in re.findall(r"^\| \[`(\w+)`\][^|]*\| ([^|]*) \|", SOURCE, re.M)
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of the page as the site renders it, but for the theme around it."""
    body = markdown.markdown(SOURCE, extensions=["tables", "md_in_html", "attr_list", "toc"])
    style, script = (DOCS / "assets" / name for name in ("site.css", "catalogue.js"))
    path: Path = tmp_path_factory.mktemp("catalogue") / "index.html"
    path.write_text(
        f"<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<link rel=icon href='data:,'><link rel=stylesheet href={style.as_uri()}>"
        f"<article class=md-typeset>{body}</article><script src={script.as_uri()}></script>",
        encoding="utf-8",
    )
    return path.as_uri()


def shown(browser: Any) -> list[str]:
    """Names of the methods that a reader sees."""
    script = """return [...document.querySelectorAll(".catalogue tbody tr")]
        .filter(row => row.checkVisibility()).map(row => row.querySelector("code").textContent)"""
    names: list[str] = browser.execute_script(script)
    return names


def headings(browser: Any) -> list[str]:
    script = """return [...document.querySelectorAll(".catalogue h2")]
        .filter(each => each.checkVisibility()).map(each => each.textContent)"""
    titles: list[str] = browser.execute_script(script)
    return titles


def having(hook: str) -> list[str]:
    return [name for name, hooks in METHODS.items() if hook in hooks]


def test_the_filter_shows_the_methods_of_a_kind_and_of_words(browser: Any, page: str):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.get(page)
    assert shown(browser) == list(METHODS)
    browser.find_element(By.CSS_SELECTOR, "label:has([value=compute_loss])").click()
    assert shown(browser) == having("compute_loss")
    assert {"trades", "consistency", "gairat"} <= set(shown(browser))  # also where it is not the main hook
    assert headings(browser) == ["Batches: transform_batch", "Attacks: generate_adv", "Losses: compute_loss"]
    # A key moves on to the next kind.
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert shown(browser) == having("adjust_grads")
    # The next tab stop is the field of words.
    browser.switch_to.active_element.send_keys(Keys.TAB)
    browser.switch_to.active_element.send_keys("PAPER-free norm")
    assert (shown(browser), headings(browser)) == ([], [])
    field = browser.find_element(By.NAME, "words")
    field.clear()
    field.send_keys("clamped NORM")
    assert shown(browser) == ["clip_grad"]
    assert browser.find_element(By.TAG_NAME, "output").text == f"1 of {len(METHODS)} methods"
    # A link into a hidden section shows everything again.
    browser.execute_script("location.hash = document.querySelector('.catalogue h2').id")
    assert browser.execute_async_script("setTimeout(arguments[0], 100)") is None
    assert shown(browser) == list(METHODS)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_of_the_catalogue_is_wider_than_the_screen(browser: Any, page: str, width: int):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_the_page_is_complete_without_a_script(browser: Any, page: str):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(page)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert shown(browser) == list(METHODS)
    assert browser.execute_script("return document.querySelector('.catalogue-filter')") is None
