"""The front end's page in a real browser: what works through the proxy, and what a browser refuses without it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.support.browser import chromium, needs_chromium
from tests.support.daemon import Daemon
from tests.support.frontend import frontend
from tests.support.http import free_port
from tests.support.waiting import until

EXAMPLES = Path(__file__).parents[2] / "examples"
ANSWER = "你好! I am a stand-in for a model, and this is my stream."
pytestmark = needs_chromium


def run(*command: str | Path) -> Iterator[None]:
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    yield
    process.terminate()
    process.wait()


@pytest.fixture
def model() -> Iterator[str]:
    """Return the address of the stand-in model."""
    address = f"127.0.0.1:{free_port()}"
    for _ in run(sys.executable, EXAMPLES / "stand_in.py", address):
        yield address


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon], model: str, folder: Path) -> Daemon:
    """Return a proxy that routes to the stand-in model as examples/ does."""
    manifests = folder / "manifests"
    manifests.mkdir()
    name = "qa-service-chatglm3.yaml"
    text = (EXAMPLES / "manifests" / name).read_text()
    assert "port: 8000" in text
    (manifests / name).write_text(text.replace("port: 8000", f"port: {model.split(':')[1]}"))
    return make_daemon(SOURCE="manifests", MANIFESTS=str(manifests)).start()


@pytest.fixture
def site(daemon: Daemon, folder: Path) -> Iterator[str]:
    """Return the address of the front end of examples/."""
    with frontend(folder, daemon.port) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def browser(folder: Path) -> Iterator[webdriver.Chrome]:
    with chromium(folder) as driver:
        yield driver


def test_the_page_gets_its_answer_and_its_streams_by_the_proxy_and_not_from_the_models_own_port(
    browser: webdriver.Chrome, site: str, model: str
):
    browser.get(site)
    assert ask(browser, "inference") == (ANSWER, "Done: 1 piece")
    for button in ("chat", "questionAnswer"):
        assert ask(browser, button) == (ANSWER, "Done: 6 pieces"), button
    keep_picture(browser)
    address = browser.find_element(By.ID, "own")
    address.clear()
    address.send_keys(f"http://{model}")
    browser.get_log("browser")
    assert ask(browser, "direct") == ("", "Failed: Failed to fetch")
    refusal = " ".join(entry["message"] for entry in browser.get_log("browser"))
    assert (
        f"Access to fetch at 'http://{model}/inference' from origin '{site[:-1]}' has been blocked by CORS" in refusal
    )


def test_a_stream_shows_on_the_page_piece_by_piece(browser: webdriver.Chrome, site: str):
    browser.get(site)
    browser.find_element(By.ID, "chat").click()
    part = until("a first piece", lambda: text(browser, "answer"))
    assert ANSWER.startswith(part)
    assert part != ANSWER
    assert text(browser, "state") == "Waiting …"
    until("the whole", lambda: text(browser, "answer") == ANSWER)


def ask(browser: webdriver.Chrome, button: str) -> tuple[str, str]:
    """Press a button; return the answer, and what the page says of it but for the time it took."""
    browser.find_element(By.ID, button).click()
    until("an end", lambda: text(browser, "state").startswith(("Done", "Failed")))
    return text(browser, "answer"), text(browser, "state").partition(" in ")[0]


def text(browser: webdriver.Chrome, name: str) -> str:
    return browser.find_element(By.ID, name).text


def keep_picture(browser: webdriver.Chrome) -> None:
    """Write the page to the file that RAYPROXY_TEST_PICTURE names: `make screenshot` does."""
    if path := os.environ.get("RAYPROXY_TEST_PICTURE"):
        browser.save_screenshot(path)
