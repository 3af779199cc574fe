"""A hostile model and a trusted one in a real browser, behind the front end: what either can do to the other two."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.support.browser import chromium, needs_chromium
from tests.support.daemon import Daemon
from tests.support.frontend import frontend
from tests.support.manifests import Manifests
from tests.support.waiting import until

pytestmark = [needs_chromium, pytest.mark.slow]
MODELS = "/apis/rayservice"
PAGE = f"""<!doctype html><title>as it was</title>
<script>document.title = "ran " + document.cookie</script>
<img src="nothing" onerror="document.title = 'ran'">
<iframe src="javascript:parent.document.title='ran'"></iframe>
<a id="popup" target="_blank" href="/">popup</a>
<form action="{MODELS}/good/stolen" method="post"><button id="send">send</button></form>
"""
WORKING = """<!doctype html><title>as it was</title>
<script>fetch("cookie").then(answer => answer.text()).then(text => { document.title = text })</script>
"""
WORKER = "self.addEventListener('fetch', event => event.respondWith(new Response('mine')))"
ORDERS = {
    "Set-Cookie": "mine=1; Path=/", "Clear-Site-Data": '"cookies", "storage"', "Service-Worker-Allowed": "/",
}  # fmt: skip
REGISTER = """const [path, done] = arguments;
navigator.serviceWorker.register(path, {scope: "/"}).then(() => done("registered"), error => done(error.name))"""


@dataclass
class Model:
    """Answer each path with a page, a worker's script, or the Cookie that came, and every answer with orders."""

    page: str
    orders: dict[str, str]
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path, and the Cookie

    @contextmanager
    def running(self) -> Iterator[int]:
        """Yield its port."""
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                model.asked.append((self.path, self.headers["Cookie"]))
                kinds = {"/": ("text/html", model.page), "/worker.js": ("text/javascript", WORKER)}
                kind, text = kinds.get(self.path, ("text/plain", self.headers["Cookie"] or "none"))
                self.send_response(200)
                for name, value in {"Content-Type": kind, "Content-Length": str(len(text)), **model.orders}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield server.server_port
            server.shutdown()


@dataclass
class World:
    """Hold the front end's address, both models, and a browser whose user is logged in."""

    site: str
    evil: Model
    good: Model
    browser: webdriver.Chrome

    def script(self, text: str, *arguments: object) -> Any:
        return self.browser.execute_async_script(text, *arguments)

    def is_untouched(self) -> bool:
        """Tell whether the front end's session is as it was, and nothing stands beside it."""
        self.browser.get(self.site)
        stored = self.browser.execute_script("return localStorage.getItem('session')")
        cookies = {cookie["name"]: cookie["value"] for cookie in self.browser.get_cookies()}
        workers = self.script("navigator.serviceWorker.getRegistrations().then(all => arguments[0](all.length))")
        return (stored, cookies, workers) == ("secret", {"session": "secret"}, 0)


@pytest.fixture
def world(folder: Path, make_daemon: Callable[..., Daemon]) -> Iterator[World]:
    evil, good = Model(PAGE, ORDERS), Model(WORKING, {"Set-Cookie": "own=1; Path=/"})
    with ExitStack() as stack:
        manifests = Manifests(folder / "m")
        for name, model in (("evil", evil), ("good", good)):
            manifests.routed(name, port=stack.enter_context(model.running()))
        settings = {"SOURCE": "manifests", "MANIFESTS": str(manifests.folder), "TRUSTED_PAGES": "good"}
        daemon = make_daemon(**settings, WORKERS="1").start()
        site = f"http://127.0.0.1:{stack.enter_context(frontend(folder, daemon.port))}"
        browser = stack.enter_context(chromium(folder))
        browser.get(site)
        browser.add_cookie({"name": "session", "value": "secret"})
        browser.execute_script("localStorage.setItem('session', 'secret')")
        yield World(site, evil, good, browser)


@pytest.mark.fault(85)
@pytest.mark.fault(86)
def test_a_hostile_page_runs_nothing_opens_nothing_sends_nothing_and_leaves_nothing_behind(world: World):
    assert world.is_untouched()
    world.browser.get_log("browser")
    world.browser.get(f"{world.site}{MODELS}/evil/")
    said = until("a refusal", lambda: " ".join(entry["message"] for entry in world.browser.get_log("browser")))
    assert "Blocked script execution" in said
    world.browser.find_element(By.ID, "popup").click()
    world.browser.find_element(By.ID, "send").click()
    until("it is refused", lambda: "Blocked form submission" in str(world.browser.get_log("browser")))
    assert world.browser.title == "as it was"
    assert len(world.browser.window_handles) == 1
    assert world.good.asked == []
    assert world.is_untouched()


@pytest.mark.fault(86)
def test_a_hostile_page_in_a_frame_of_the_front_end_is_another_origin(world: World):
    title = world.browser.title
    frame = """const frame = document.body.appendChild(document.createElement("iframe"));
    frame.onload = () => arguments[1](frame.contentDocument === null); frame.src = arguments[0]"""
    assert world.script(frame, f"{MODELS}/evil/") is True
    assert world.script(frame, f"{MODELS}/good/") is False
    assert world.browser.title == title
    assert world.is_untouched() is False  # the good one has set its cookie
    assert {cookie["name"] for cookie in world.browser.get_cookies()} == {"session", "own"}


@pytest.mark.fault(85)
@pytest.mark.fault(87)
def test_a_call_of_a_hostile_model_takes_no_cookie_there_and_brings_none_back(world: World):
    fetched = "fetch(arguments[0]).then(answer => answer.text()).then(arguments[1])"
    assert world.script(fetched, f"{MODELS}/evil/x") == "none"
    assert {cookie for _, cookie in world.evil.asked} == {None}
    assert world.is_untouched()


@pytest.mark.fault(85)
def test_no_script_of_a_hostile_model_comes_to_stand_between_the_browser_and_the_front_end(world: World):
    assert world.script(REGISTER, f"{MODELS}/evil/worker.js") == "SecurityError"
    assert world.is_untouched()


def test_a_page_of_a_trusted_model_works_with_its_cookies(world: World):
    world.browser.get(f"{world.site}{MODELS}/good/")
    cookies = until("the page has run", lambda: [title for title in [world.browser.title] if "=" in title])[0]
    assert sorted(cookies.split("; ")) == ["own=1", "session=secret"]


def test_a_trusted_models_orders_are_obeyed(world: World):
    """What the tests above would look like without the proxy: browsers do obey these fields."""
    world.good.orders = {name: value for name, value in ORDERS.items() if name != "Clear-Site-Data"}
    assert world.script(REGISTER, f"{MODELS}/good/worker.js") == "registered"
    assert not world.is_untouched()
