"""The report in a real browser: it draws, its legend answers a click, and the console stays free of errors."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from buttress.cli import main
from buttress.report.run import write_report


@pytest.fixture(scope="module")
def page(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of the report of two seeds, with every figure that there is."""
    runs = Path(shutil.copytree(trained, tmp_path_factory.mktemp("report") / "noisy"))
    assert main(["analyze", str(runs / "s0"), "--points", "3", "--examples", "20"]) == 0
    return write_report([runs / "s0", runs / "s1"], runs / "report.html").as_uri()


def opened(browser: Any, page: str, width: int, mobile: bool = False, theme: str = "light") -> None:
    """Show the page in a window of a width, and wait until everything is drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    preferred = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", preferred)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page)
    drawn = "return [...document.querySelectorAll('.plot')].every(plot => plot.querySelector('.main-svg'))"
    WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(drawn))


def errors(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_a_click_in_the_legend_hides_a_curve(browser: Any, page: str):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    opened(browser, page, 1280)
    assert len(browser.find_elements(By.CSS_SELECTOR, ".plot")) == 14
    assert browser.find_elements(By.CSS_SELECTOR, ".plot canvas")  # the 3-D landscape
    plot = browser.find_element(By.CSS_SELECTOR, ".plot")

    def hidden() -> set[str]:
        script = "return arguments[0]._fullData.filter(t => t.visible === 'legendonly').map(t => t.legendgroup)"
        return set(browser.execute_script(script, plot))

    assert hidden() == set()
    first = plot.find_element(By.CSS_SELECTOR, ".legendtoggle")
    first.click()
    WebDriverWait(browser, 20).until(lambda _: hidden())  # plotly waits for a second click before it answers one
    assert hidden() == {"live"}  # its curves, its band and its stars
    first = plot.find_element(By.CSS_SELECTOR, ".legendtoggle")
    first.click()
    WebDriverWait(browser, 20).until(lambda _: not hidden())
    assert errors(browser) == []


def test_nothing_is_fetched(browser: Any, page: str):
    opened(browser, page, 1280)
    fetched = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    assert [name for name in browser.execute_script(fetched) if not name.startswith(("data:", "blob:"))] == []
    assert errors(browser) == []


def test_the_browser_test_can_fail(browser: Any, tmp_path: Path):
    broken = tmp_path / "broken.html"
    broken.write_text("<!doctype html><link rel='icon' href='data:,'><div class='plot'><b class='main-svg'></b></div>"
                      "<script>Plotly.newPlot()</script>")  # fmt: skip
    opened(browser, broken.as_uri(), 1280)
    (message,) = errors(browser)
    assert "Plotly is not defined" in message


def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Any, page: str):
    opened(browser, page, 390, mobile=True)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    wide = """return [...document.querySelectorAll('.plot, figure, h1, h2, h3, p, dl, nav')]
        .filter(each => each.getBoundingClientRect().right > innerWidth).map(each => each.textContent.slice(0, 60))"""
    assert browser.execute_script(wide) == []
    assert errors(browser) == []


# Axis titles of which a part lies outside of their plot.
CUT = """return [...document.querySelectorAll('.xtitle, .ytitle')].filter(title => {
    const [inner, outer] = [title, title.closest('.plot')].map(each => each.getBoundingClientRect());
    return inner.left < outer.left || inner.right > outer.right || inner.top < outer.top || inner.bottom > outer.bottom;
}).map(title => title.textContent)"""


@pytest.mark.parametrize(("width", "mobile"), [(1280, False), (390, True)])
def test_no_title_of_an_axis_is_cut(browser: Any, page: str, width: int, mobile: bool):
    opened(browser, page, width, mobile)
    titles = browser.execute_script("return document.querySelectorAll('.xtitle').length")
    assert titles == browser.execute_script("return document.querySelectorAll('.plot').length") - 1  # of 3-D has none
    assert browser.execute_script(CUT) == []


GROUNDS = """return [getComputedStyle(document.body).backgroundColor,
    document.querySelector('.plot .main-svg').style.background]"""


def test_the_page_follows_the_reader_into_the_dark(browser: Any, page: str):
    from selenium.webdriver.support.ui import WebDriverWait

    opened(browser, page, 1280, theme="dark")
    dark = ["rgb(20, 20, 18)", "rgb(30, 30, 28)"]
    assert browser.execute_script(GROUNDS) == dark
    light = {"features": [{"name": "prefers-color-scheme", "value": "light"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", light)  # the system turns light while the page is open
    bright = ["rgb(246, 246, 244)", "rgb(255, 255, 255)"]
    WebDriverWait(browser, 20).until(lambda _: browser.execute_script(GROUNDS) == bright)
    opened(browser, page, 1280, theme="dark")
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert browser.execute_script(GROUNDS)[1] == "rgb(255, 255, 255)"  # paper is white
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script(GROUNDS) == dark
    assert errors(browser) == []


def test_pictures_of_attacks_are_shown(browser: Any, page: str):
    opened(browser, page, 390, mobile=True)
    sizes = "return [...document.querySelectorAll('.examples img')].map(each => each.naturalWidth)"
    assert set(browser.execute_script(sizes)) == {8}
    assert errors(browser) == []


def test_on_paper_everything_is_open(browser: Any, page: str):
    opened(browser, page, 1280)
    browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    # The 3-D landscape is drawn for the paper before it is printed: whole, which is in both halves of its width.
    halves = """dispatchEvent(new Event("beforeprint"));
        const {width, height, data} = (copy => copy.getContext("2d").getImageData(0, 0, copy.width, copy.height))(
            document.querySelector(".paper-copy"));
        const drawn = [0, 0];
        for (let i = 0; i < width * height; i++) if (data[4 * i + 3]) drawn[+(i % width >= width / 2)]++;
        return [document.querySelector(".paper-copy").style.width, ...drawn]"""
    width, left, right = browser.execute_script(halves)
    assert width == "680px"
    assert 0 < left < 2 * right < 4 * left
    assert browser.execute_script(
        "dispatchEvent(new Event('afterprint')); return !document.querySelector('.paper-copy')"
    )
    # Headless printing fires beforeprint and afterprint, and what was opened stays open.
    assert browser.execute_script("return [...document.querySelectorAll('details')].every(fold => fold.open)")
    assert errors(browser) == []
