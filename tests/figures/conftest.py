"""One browser for all tests of a run that need one; every test finds it as if it were new."""

import pytest
from browser import chromium


@pytest.fixture(scope="session")
def the_browser(tmp_path_factory):
    driver = chromium(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture
def driver(the_browser):
    the_browser.set_window_size(1000, 900)
    the_browser.get_log("browser")  # what an earlier page wrote there
    return the_browser


@pytest.hookimpl(tryfirst=True)  # before marks are chosen
def pytest_collection_modifyitems(items):
    """Mark what needs the browser, so that no test can forget to."""
    for item in items:
        if "driver" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
