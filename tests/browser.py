"""For tests of elements of a page: what is in them, and a browser for what they do."""

import shutil
from html.parser import HTMLParser

import pytest


class Page(HTMLParser):
    """All elements as (tag, attributes), styles, scripts, and the text that a reader sees."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.styles, self.scripts, self.seen = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        tag = self.elements[-1][0] if self.elements else ""
        if tag in ("style", "script"):
            (self.styles if tag == "style" else self.scripts).append(data)
        else:
            self.seen += data

    def all(self, tag, names=""):
        """Return the attributes of all elements of a tag that have these classes."""
        return [
            attributes
            for found, attributes in self.elements
            if found == tag and set(names.split()) <= set(attributes.get("class", "").split())
        ]


def chromium(profile):
    """Return a headless Chromium under selenium's control, or skip the test if there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (
        "--headless=new", "--no-sandbox", "--autoplay-policy=no-user-gesture-required",
        f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


def show(driver, folder, body):
    """Open a page of this content in the browser."""
    path = folder / "page.html"
    path.write_text(f'<!doctype html><meta charset="utf-8"><body>{body}</body>', encoding="utf-8")
    driver.get(path.as_uri())
