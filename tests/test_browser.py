"""The article and Snakemake's report in a real Chromium without a network: they load without errors and work as promised."""

import shutil
import time

import pytest

from conftest import ROOT, SMALL, snakemake
from test_article import page, slower_tensorflow, write_grid

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver: apt-get install --no-install-recommends chromium chromium-driver"
)
CATEGORIES = {"Results", "Learning", "Time", "Data and models", "Provenance"}
REPORT_LIMIT_BYTES = 15_000_000
# A warning by Tailwind, which Snakemake's report is made with; not an error.
KNOWN = "cdn.tailwindcss.com should not be used in production"


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    # No sandbox: containers do not give the rights it needs. No host resolves, so whatever is requested from the network fails visibly.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND"):
        options.add_argument(argument)
    options.add_argument("--window-size=1300,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def article_page(tmp_path_factory, images_file):
    """The page of a grid of two frameworks, two networks and three seeds."""
    folder = tmp_path_factory.mktemp("article")
    page(folder, images_file, write_grid(folder, slower_tensorflow))
    return folder / "article.html"


@pytest.fixture(scope="module")
def report(finished):
    """Snakemake's report, made as `make report` does."""
    path = finished / "results/small/report.html"
    style = ("--report-stylesheet", "rules/captions/report.css")
    done = snakemake(finished, "--report", str(path.relative_to(finished)), *style, config=SMALL)
    assert done.returncode == 0, done.stderr[-3000:]
    return path


def complaints(browser) -> list[str]:
    """What the console has logged since the last call, including network errors."""
    return [entry["message"] for entry in browser.get_log("browser") if KNOWN not in entry["message"]]


def opened(browser, path) -> None:
    complaints(browser)
    browser.get(path.as_uri())


def until(browser, condition, seconds: float = 60):
    return WebDriverWait(browser, seconds, poll_frequency=0.1).until(condition)


def column(browser, table: str, number: int) -> list[str]:
    rows = browser.find_elements(By.CSS_SELECTOR, f"{table} tbody tr")
    return [row.find_elements(By.TAG_NAME, "td")[number].text for row in rows]


def test_the_page_opens_without_complaint_and_its_chart_can_be_turned_about(browser, article_page):
    opened(browser, article_page)
    until(browser, lambda b: b.find_elements(By.CSS_SELECTOR, "#tradeoff-chart.vega-embed svg"))
    chart = browser.find_element(By.ID, "tradeoff-chart")
    assert "Training time (s)" in chart.text and "Test accuracy" in chart.text
    Select(browser.find_element(By.ID, "axis-x")).select_by_value("parameters")
    until(browser, lambda b: "Parameters" in chart.text)
    assert "Training time (s)" not in chart.text
    taken = browser.find_element(By.CSS_SELECTOR, "#axis-y option[value=parameters]")
    assert not taken.is_enabled()
    assert complaints(browser) == []


def test_a_mark_tells_its_run(browser, article_page):
    opened(browser, article_page)
    until(browser, lambda b: b.find_elements(By.CSS_SELECTOR, "#tradeoff-chart.vega-embed svg"))
    marks = browser.find_elements(By.CSS_SELECTOR, "#tradeoff-chart .mark-symbol.role-mark path")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", marks[-1])
    ActionChains(browser).move_to_element(marks[-1]).perform()
    tooltip = until(browser, lambda b: b.find_element(By.CSS_SELECTOR, "#vg-tooltip-element.visible"))
    for text in ("Framework", "Network", "Hardware", "Test accuracy"):
        assert text in tooltip.text


def test_the_results_table_sorts(browser, article_page):
    opened(browser, article_page)
    button = browser.find_element(By.CSS_SELECTOR, "#results-table th button")
    assert column(browser, "#results-table", 0) == ["PyTorch"] * 2 + ["TensorFlow"] * 2
    button.click()
    button.click()
    assert column(browser, "#results-table", 0) == ["TensorFlow"] * 2 + ["PyTorch"] * 2
    assert browser.find_element(By.CSS_SELECTOR, "#results-table th").get_attribute("aria-sort") == "descending"


@pytest.mark.parametrize("width", [390, 1300])
def test_nothing_is_wider_than_the_page(browser, article_page, width):
    opened(browser, article_page)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    until(browser, lambda b: b.find_elements(By.CSS_SELECTOR, "#tradeoff-chart.vega-embed svg"))
    time.sleep(0.5)  # for the chart to follow the width
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide <= width


def test_every_figure_of_the_page_shows(browser, article_page):
    opened(browser, article_page)
    widths = browser.execute_script("return [...document.images].map(image => image.complete && image.naturalWidth)")
    assert len(widths) == 5 and all(widths)


def test_the_report_has_every_category_and_shows_every_entry(browser, report):
    assert report.stat().st_size < REPORT_LIMIT_BYTES
    opened(browser, report)
    until(browser, lambda b: "How to read it" in b.find_element(By.ID, "app").text)
    front = browser.find_element(By.ID, "app").text
    assert "2 trainings on digits: 2 frameworks (pytorch, tensorflow), 1 network (alexnet_mod), n = 1 seed per cell" in front
    until(browser, lambda b: b.find_elements(By.CSS_SELECTOR, "#rulegraph canvas, #rulegraph svg"))
    assert set(browser.execute_script("return Object.keys(categories)")) == CATEGORIES
    entries = browser.execute_script("return Object.entries(results)")
    assert len(entries) >= 17
    for path, entry in entries:
        assert entry["labels"] and len(entry["caption"]) > 100, path
        shown(browser, path, entry)
        if entry["mime_type"].startswith("image/"):
            until(browser, lambda b: b.execute_script("return [...document.querySelectorAll('#app img')].some(i => i.naturalWidth > 300)"))
        else:
            assert entry["mime_type"] == "text/html", path
            until(browser, lambda b: len(text_of_frame(b)) > 100)
    assert complaints(browser) == []


def test_the_reports_front_page_begins_at_its_top(browser, report):
    """Snakemake centres it, which would cut off the top of anything taller than the window."""
    opened(browser, report)
    heading = until(browser, lambda b: b.find_element(By.XPATH, "//*[contains(text(), 'framework against framework')]"))
    assert heading.rect["y"] >= 0


def shown(browser, path: str, entry: dict) -> None:
    """Show an entry in the report."""
    kind = "img" if entry["mime_type"].startswith("image/") else "html"
    view = "app.setView({content: arguments[0], contentPath: results[arguments[1]].data_uri, resultPath: arguments[1]})"
    browser.execute_script(view, kind, path)


def text_of_frame(browser) -> str:
    """Text of the page that the report shows."""
    try:
        browser.switch_to.frame(browser.find_element(By.CSS_SELECTOR, "#app iframe"))
        return browser.find_element(By.TAG_NAME, "body").text
    except (NoSuchElementException, StaleElementReferenceException):
        return ""
    finally:
        browser.switch_to.default_content()


def test_the_results_table_of_the_report_sorts(browser, report):
    opened(browser, report)
    until(browser, lambda b: b.execute_script("return typeof app !== 'undefined' && !!results"))
    shown(browser, "results/small/pages/table.html", {"mime_type": "text/html"})
    frame = until(browser, lambda b: b.find_element(By.CSS_SELECTOR, "#app iframe"))
    browser.switch_to.frame(frame)
    until(browser, lambda b: b.find_elements(By.CSS_SELECTOR, "table.sortable"))
    first = browser.find_element(By.CSS_SELECTOR, "table.sortable th button")
    assert column(browser, "table.sortable", 0) == ["PyTorch", "TensorFlow"]
    first.click()
    first.click()
    assert column(browser, "table.sortable", 0) == ["TensorFlow", "PyTorch"]
    browser.switch_to.default_content()


def test_the_front_page_is_written_for_every_category():
    text = (ROOT / "rules/captions/workflow.rst").read_text(encoding="utf-8")
    assert all(f'"{category}": "' in text for category in CATEGORIES)
