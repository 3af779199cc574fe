"""The front end's page in a real browser: what works through the proxy, and what a browser refuses without it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.support.browser import chromium, needs_chromium
from tests.support.daemon import Daemon
from tests.support.frontend import frontend
from tests.support.http import free_port
from tests.support.raw import RawUpstream
from tests.support.waiting import until

EXAMPLES = Path(__file__).parents[2] / "examples"
ANSWER = "你好! I am a stand-in for a model, and this is my stream."
pytestmark = needs_chromium


def chunk(content: str) -> str:
    """Return a line of a chat's stream with a part of its answer."""
    return f'data: {{"choices": [{{"delta": {{"content": "{content}"}}}}]}}'


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
    return leading_to(int(model.split(":")[1]), make_daemon, folder)


def leading_to(port: int, make_daemon: Callable[..., Daemon], folder: Path) -> Daemon:
    """Start a proxy with the route of examples/, to a port of loopback."""
    manifests = folder / "manifests"
    manifests.mkdir()
    name = "qa-service-chatglm3.yaml"
    text = (EXAMPLES / "manifests" / name).read_text()
    assert "port: 8000" in text
    (manifests / name).write_text(text.replace("port: 8000", f"port: {port}"))
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


@dataclass
class Streaming:
    """Answer each call with these pieces of an event stream, one after the other, and then end it."""

    pieces: list[str] = field(default_factory=list)

    def __call__(self, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for piece in self.pieces:
            connection.sendall(piece.encode())
            time.sleep(0.1)  # so that each is a piece of its own to the page as well
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


@pytest.fixture
def streaming() -> Streaming:
    return Streaming()


@pytest.fixture
def streaming_site(make_daemon: Callable[..., Daemon], streaming: Streaming, folder: Path) -> Iterator[str]:
    """Return the address of the front end, before a model that streams what a test gives it."""
    upstream = RawUpstream(streaming)
    with frontend(folder, leading_to(upstream.port, make_daemon, folder).port) as port:
        yield f"http://127.0.0.1:{port}/"
    upstream.close()


END = "data: [DONE]\n\n"
STREAMS = {
    "lines end with CR and LF": [f"{chunk('a')}\n\n{chunk('b')}\n\n{END}".replace("\n", "\r\n")],
    "a CR is cut from its LF": [chunk("a") + "\r", "\n\r", f"\n{chunk('b')}\r\n\r", f"\n{END}"],
    "lines end with CR": [f"{chunk('a')}\r\r{chunk('b')}\r\r"],
    "comments and blank lines": [
        ": ping\n\n",
        f"\n\nid: 1\nretry: 5\n\n{chunk('a')}\n\n: ping\n\n{chunk('b')}\n\n{END}",
    ],
    "a value of several lines": [chunk("ab").replace(" [", "\ndata: [") + "\n\n", END],
}


@pytest.mark.parametrize("case", STREAMS)
def test_the_page_reads_a_stream_of_any_form_that_the_standard_has(
    browser: webdriver.Chrome, streaming_site: str, streaming: Streaming, case: str
):
    streaming.pieces = STREAMS[case]
    browser.get(streaming_site)
    assert ask(browser, "chat")[0] == "ab"
    assert text(browser, "state").startswith("Done")


def test_a_separator_of_unicodes_lines_is_a_character_as_any_other(
    browser: webdriver.Chrome, streaming_site: str, streaming: Streaming
):
    streaming.pieces = [f"event: add\ndata: a\u2028b\n\n{chunk('c')}\n\n"]
    browser.get(streaming_site)
    assert ask(browser, "questionAnswer")[1] == "Done: 1 piece"
    assert browser.find_element(By.ID, "answer").get_property("textContent") == "a\u2028b"


@pytest.mark.parametrize("fields", ["data: a", "event:\ndata: a", "event: add\nevent: \ndata: a"])
def test_an_event_without_a_name_or_with_an_empty_one_is_a_message(browser: webdriver.Chrome, site: str, fields: str):
    browser.get(site)
    assert browser.execute_script("return event(arguments[0])", fields) == {"name": "message", "data": "a"}


@pytest.mark.parametrize(
    ("button", "failure"),
    [
        ("chat", 'data: {"error": {"message": "The engine died.", "type": "internal_error", "code": 500}}\n\n'),
        ("questionAnswer", "event: error\ndata: The engine died.\n\n"),
    ],
)
def test_an_error_within_a_stream_is_shown_behind_what_came_before_it(
    browser: webdriver.Chrome, streaming_site: str, streaming: Streaming, button: str, failure: str
):
    before = chunk("a") if button == "chat" else "event: add\ndata: a"
    streaming.pieces = [f"{before}\n\n", failure, END]
    browser.get(streaming_site)
    assert ask(browser, button) == ("a", "Failed: The engine died.")


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
