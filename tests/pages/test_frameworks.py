"""Pages of models in a real browser, through the front end and the proxy: docs/pages.md says what each needs."""

from __future__ import annotations

import urllib.request
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.pages.conftest import APPS, PREFIX, Site, page
from tests.support.browser import needs_chromium
from tests.support.http import free_port
from tests.support.waiting import until

pytestmark = [needs_chromium, pytest.mark.slow]
TRUSTED = {"TRUSTED_PAGES": "page"}


def find(browser: webdriver.Chrome, css: str) -> Any:
    """Return the element, once there is one."""
    return until(css, lambda: browser.find_elements(By.CSS_SELECTOR, css))[0]


def outside(browser: webdriver.Chrome) -> set[str]:
    """Return the paths that the page asked the front end for outside its own prefix."""
    names = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    parts = [urlsplit(name) for name in names]
    here = urlsplit(browser.current_url).netloc
    return {part.path for part in parts if part.netloc == here and not part.path.startswith(f"{PREFIX}/")}


def try_out(browser: webdriver.Chrome) -> tuple[str, str]:
    """Let FastAPI's page make its first call; return the URL that it called, and the answer's status."""
    find(browser, ".opblock-summary-control").click()
    find(browser, ".try-out__btn").click()
    find(browser, ".execute").click()
    status = find(browser, ".live-responses-table .response .response-col_status")
    return find(browser, ".request-url pre").text, status.text.split()[0]


@pytest.mark.parametrize("route", ["", "shop/"])
def test_the_page_of_fastapi_calls_its_application_with_and_without_a_route_prefix(
    browser: webdriver.Chrome, site: Site, ray: int, route: str
):
    address = site(ray, **TRUSTED)
    browser.get(f"{address}{route}docs")
    assert try_out(browser) == (f"{address}{route}items/", "200")
    assert outside(browser) <= {"/favicon.ico"}


def test_the_scripts_of_a_page_that_is_not_trusted_do_not_run(browser: webdriver.Chrome, site: Site, ray: int):
    browser.get_log("browser")  # what came before
    browser.get(f"{site(ray)}docs")
    assert browser.title == "one - Swagger UI"
    said = until("a refusal", lambda: " ".join(entry["message"] for entry in browser.get_log("browser")))
    assert "Blocked script execution" in said
    assert "sandboxed" in said
    assert browser.find_elements(By.CSS_SELECTOR, ".opblock-summary-control") == []


@pytest.mark.parametrize("route", ["", "shop/"])
def test_a_redirect_of_fastapi_ends_in_its_answer(site: Site, ray: int, route: str):
    with urllib.request.urlopen(f"{site(ray)}{route}items", timeout=20) as answer:
        assert answer.url.endswith(f"{PREFIX}/{route}items/")
        assert answer.read() == b'{"from":"%s"}' % (b"shop" if route else b"one")


def greeted(browser: webdriver.Chrome) -> str:
    """Fill in the page of Gradio; return the answer that it shows."""
    find(browser, "#name textarea, #name input").send_keys("Ada")
    find(browser, "#greet").click()
    field = find(browser, "#answer textarea, #answer input")
    return until("an answer", lambda: field.get_attribute("value"))


def test_a_page_of_gradio_that_knows_its_root_path_works(browser: webdriver.Chrome, site: Site):
    port = free_port()
    with page(APPS / "gradio_page.py", str(port), PREFIX):
        browser.get(site(port, **TRUSTED))
        assert greeted(browser) == "Hello Ada"
        assert outside(browser) <= {"/favicon.ico", "/manifest.json"}


def test_a_page_of_gradio_on_ray_serve_works(browser: webdriver.Chrome, site: Site, ray: int):
    browser.get(f"{site(ray, **TRUSTED)}gradio/")
    assert greeted(browser) == "Hello Ada"
    assert outside(browser) <= {"/favicon.ico", "/manifest.json"}


def streamlit(port: int, *arguments: str):
    options = ("--server.port", str(port), "--server.address", "127.0.0.1", "--server.headless", "true")
    return page("-m", "streamlit", "run", APPS / "streamlit_page.py", *options, *arguments)


def test_a_page_of_streamlit_works_as_it_is(browser: webdriver.Chrome, site: Site):
    port = free_port()
    with streamlit(port):
        browser.get(site(port, **TRUSTED))
        find(browser, "input").send_keys("Ada" + Keys.ENTER)
        until("the answer", lambda: "Hello Ada" in find(browser, "body").text)
        assert outside(browser) <= {"/favicon.ico"}


def test_a_page_of_streamlit_with_a_base_path_is_not_found_since_the_proxy_takes_it_off(
    browser: webdriver.Chrome, site: Site
):
    port = free_port()
    with streamlit(port, "--server.baseUrlPath", PREFIX):
        browser.get(site(port, **TRUSTED))
        assert find(browser, "body").text == "Not Found"
