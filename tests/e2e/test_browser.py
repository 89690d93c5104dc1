"""Chromium on the chat through nginx: signing in, a streamed reply, the settings, and no error on the way."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    WebError,
    WebSocket,
    expect,
    sync_playwright,
)
from stacks import REPOSITORY, RealStack

from aistack.config.schema import Limits

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
ADMINISTRATOR = "admin@localhost"
PATIENCE_MS = 60_000
# What nginx.conf.j2 leaves out of the limit for the chat.
FREE = re.compile(
    r"/(_app|static|assets|pyodide|cache|audio|themes|wasm|ws)/|/(manifest\.json|favicon\.png|opensearch\.xml|health)$"
)
# Failures that nobody need mend: Open WebUI never reads this answer, so going to another page breaks it off.
HARMLESS = {("POST", "/api/v1/auths/update/timezone", "net::ERR_ABORTED")}
# Notes every length that the reply has on the screen.
WATCH_REPLY = """() => {
    window.replyLengths = [];
    new MutationObserver(() => {
        const reply = document.querySelector('.chat-assistant');
        const length = reply ? reply.innerText.length : 0;
        if (length && length !== window.replyLengths.at(-1)) window.replyLengths.push(length);
    }).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""
ADD_USER = """async (user) => {
    const headers = {'Content-Type': 'application/json', Authorization: 'Bearer ' + localStorage.token};
    const answer = await fetch('/api/v1/auths/add', {method: 'POST', headers, body: JSON.stringify(user)});
    return answer.status;
}"""

pytestmark = pytest.mark.skipif(
    not (CHROMIUM.exists() and shutil.which("certutil")), reason="needs the packages chromium and libnss3-tools"
)


@dataclass
class Watch:
    """Listens to one browser: what goes wrong in it, what was asked for, what streams in."""

    context: BrowserContext
    problems: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context.on("console", self._console)
        self.context.on("weberror", self._error)
        self.context.on("requestfinished", self._finished)
        self.context.on("requestfailed", self._failed)
        self.context.on("response", self._response)

    def new_page(self) -> Page:
        """A page whose WebSockets are listened to as well."""
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("websocket", self._socket)
        return page

    def limited(self) -> list[float]:
        """When requests began that count against the limit for the chat, in epoch seconds, in order."""
        counted = [request for request in self.requests if not FREE.search(urlsplit(request.url).path)]
        return sorted(request.timing["startTime"] / 1000 for request in counted)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.problems.append(f"console: {message.text} ({message.location})")

    def _error(self, error: WebError) -> None:
        self.problems.append(f"exception: {error.error}")

    def _finished(self, request: Request) -> None:
        self.requests.append(request)

    def _failed(self, request: Request) -> None:
        if (request.method, urlsplit(request.url).path, request.failure) not in HARMLESS:
            self.problems.append(f"failed: {request.method} {request.url}: {request.failure}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.problems.append(f"status: {response.status} {response.request.method} {response.url}")

    def _socket(self, socket: WebSocket) -> None:
        socket.on("framereceived", lambda frame: self.frames.append(str(frame)))
        socket.on("socketerror", lambda error: self.problems.append(f"WebSocket: {socket.url}: {error}"))


@pytest.fixture(scope="module")
def trusting_home(stack: RealStack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder in which Chromium trusts the stack's authority, as a person's would after importing it."""
    home = tmp_path_factory.mktemp("home")
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    for arguments in (("-N", "--empty-password"), ("-A", "-t", "C,,", "-n", "aistack", "-i", str(stack.ca))):
        subprocess.run(["certutil", "-d", f"sql:{store}", *arguments], check=True)
    return home


@pytest.fixture
def watch(stack: RealStack, trusting_home: Path) -> Iterator[Watch]:
    """A browser that nobody has used; the test fails when anything went wrong in it."""
    with sync_playwright() as playwright:
        environment: dict[str, str | float | bool] = {**os.environ, "HOME": str(trusting_home)}
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, env=environment)
        watch = Watch(browser.new_context(base_url=stack.url, viewport={"width": 1280, "height": 800}))
        yield watch
        browser.close()
    assert watch.problems == []


def sign_in(page: Page, email: str, password: str) -> None:
    """Fill in the form, wait for the chat, and put the news of the release away."""
    page.goto("/")
    page.locator("input[type=email]").fill(email)
    page.locator("input[type=password]").fill(password)
    page.locator("button[type=submit]").click()
    expect(page.locator("#chat-input")).to_be_visible(timeout=PATIENCE_MS)
    news = page.get_by_role("button", name="Okay, Let's Go!")
    page.add_locator_handler(news, lambda button: button.click())


def test_a_reply_streams_into_the_chat_and_is_there_after_a_reload(stack: RealStack, watch: Watch) -> None:
    page = watch.new_page()
    sign_in(page, ADMINISTRATOR, stack.password)
    page.evaluate(WATCH_REPLY)
    page.locator("#chat-input").click()
    page.keyboard.type("Tell me about the sea.")
    page.keyboard.press("Enter")
    reply = page.locator(".chat-assistant")
    expect(page.locator(".copy-response-button")).to_be_visible(timeout=PATIENCE_MS)
    said = reply.inner_text()
    lengths = page.evaluate("window.replyLengths")
    assert len([frame for frame in watch.frames if "chat:" in frame]) > 5
    assert len(set(lengths)) > 3, f"the reply came in one piece: {lengths}"
    assert lengths == sorted(lengths)
    assert len(said) > 40
    expect(page).to_have_url(re.compile("/c/[0-9a-f-]{36}$"))
    page.reload()
    expect(reply).to_have_text(said, timeout=PATIENCE_MS)
    expect(page.locator(".chat-user")).to_have_text("Tell me about the sea.")
    if os.environ.get("AISTACK_SCREENSHOTS"):
        page.screenshot(path=REPOSITORY / "docs" / "images" / "chat.png")


def test_a_new_chat_starts_with_the_chat_model_and_no_other(stack: RealStack, watch: Watch) -> None:
    page = watch.new_page()
    sign_in(page, ADMINISTRATOR, stack.password)
    chosen = page.locator("#model-selector-model-button")
    expect(chosen).to_have_attribute("aria-label", "Selected model: demo:latest")


def test_a_user_who_is_no_administrator_is_offered_the_chat_model(stack: RealStack, watch: Watch) -> None:
    page = watch.new_page()
    sign_in(page, ADMINISTRATOR, stack.password)
    user = {"name": "Ada", "email": "ada@localhost", "password": "Correct-horse-7", "role": "user"}
    assert page.evaluate(ADD_USER, user) == 200
    watch.context.clear_cookies()
    page.evaluate("localStorage.clear()")
    sign_in(page, user["email"], user["password"])
    chosen = page.locator("#model-selector-model-button")
    expect(chosen).to_have_attribute("aria-label", "Selected model: demo:latest")


def test_the_settings_show_the_gateway_as_the_connection_and_both_models(stack: RealStack, watch: Watch) -> None:
    page = watch.new_page()
    sign_in(page, ADMINISTRATOR, stack.password)
    page.goto("/admin/settings/connections")
    expect(page.get_by_text("Manage Ollama API Connections")).to_be_visible()
    addresses = page.locator("input").evaluate_all("inputs => inputs.map(input => input.value)")
    assert [address for address in addresses if address.startswith("http")] == [
        f"http://127.0.0.1:{stack.settings['gateway.port']}/ollama"
    ]
    page.goto("/admin/settings/models")
    for model in ("demo:latest", "all-minilm:latest"):
        expect(page.get_by_text(model, exact=True).first).to_be_visible()


def test_loading_the_chat_and_loading_it_again_stays_below_the_default_limits(stack: RealStack, watch: Watch) -> None:
    page = watch.new_page()
    sign_in(page, ADMINISTRATOR, stack.password)
    watch.requests.clear()
    for _ in range(2):
        page.reload()
        expect(page.locator("#model-selector-model-button")).to_be_visible(timeout=PATIENCE_MS)
    limits = Limits()
    rate = float(limits.chat_rate.removesuffix("r/s"))
    print(len(watch.limited()), [round(t-watch.limited()[0],2) for t in watch.limited()], worst_excess(watch.limited(), rate))
    assert worst_excess(watch.limited(), rate) <= limits.chat_burst


def worst_excess(times: list[float], rate: float) -> float:
    """How far requests at `times` (seconds) run ahead of `rate` (1/s) at most, as nginx's limit_req counts it."""
    excess, worst, last = 0.0, 0.0, times[0]
    for time in times[1:]:
        excess = max(excess - (time - last) * rate + 1, 0.0)
        worst, last = max(worst, excess), time
    return worst
