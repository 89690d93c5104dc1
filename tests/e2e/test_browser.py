"""Chromium on the chat through nginx: signing in, a streamed reply, the settings, and no error on the way."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

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
PATIENCE_MS = 30_000
# The last that a page asks for on its own. Who leaves before it has come makes Open WebUI log what it then lacks.
LAST_OF_A_PAGE = "**/api/v1/skills/**"
expect.set_options(timeout=PATIENCE_MS)
# Only Chromium itself aborts a request, when the page that waits for it is left; all other failures count.
HARMLESS = {"net::ERR_ABORTED"}
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
    """Listens to one browser: what goes wrong in it, what streams in."""

    context: BrowserContext
    problems: list[str] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context.on("console", self._console)
        self.context.on("weberror", self._error)
        self.context.on("requestfailed", self._failed)
        self.context.on("response", self._response)

    def new_page(self) -> Page:
        """A page whose WebSockets are listened to as well."""
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("websocket", self._socket)
        return page

    def pieces(self) -> list[str]:
        """The pieces in which the reply came, as Open WebUI's server pushed them through its WebSocket."""
        # Socket.IO begins the frame of an event with 42.
        events = [json.loads(frame.removeprefix("42")) for frame in self.frames if frame.startswith('42["events"')]
        answers = [event[1]["data"]["data"] for event in events if event[1]["data"]["type"] == "response:completion"]
        return [answer["delta"] for answer in answers if answer["type"] == "response.output_text.delta"]

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.problems.append(f"console: {message.text} ({message.location})")

    def _error(self, error: WebError) -> None:
        self.problems.append(f"exception: {error.error}")

    def _failed(self, request: Request) -> None:
        if request.failure not in HARMLESS:
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
        watch = Watch(browser.new_context(base_url=stack.url, viewport={"width": 1100, "height": 560}))
        yield watch
        browser.close()
    assert watch.problems == []


def sign_in(page: Page, email: str, password: str) -> None:
    """Fill in the form, wait for the chat, and put the news of the release away."""
    page.goto("/")
    page.locator("input[type=email]").fill(email)
    page.locator("input[type=password]").fill(password)
    with page.expect_response(LAST_OF_A_PAGE):
        page.locator("button[type=submit]").click()
    expect(page.locator("#chat-input")).to_be_visible()
    news = page.get_by_role("button", name="Okay, Let's Go!")
    page.add_locator_handler(news, lambda button: button.click())


def test_a_reply_streams_into_the_chat_and_is_there_after_a_reload(stack: RealStack, watch: Watch) -> None:
    page = watch.new_page()
    sign_in(page, ADMINISTRATOR, stack.password)
    page.locator("#chat-input").click()
    page.keyboard.type("Tell me about the sea.")
    page.keyboard.press("Enter")
    expect(page.locator(".copy-response-button")).to_be_visible()
    reply = page.locator(".chat-assistant")
    said = reply.inner_text()
    # The demo model is done within a few frames of the screen, so it is the network that shows the pieces.
    assert len(watch.pieces()) > 3
    assert "".join(watch.pieces()).strip() == said
    expect(page).to_have_url(re.compile("/c/[0-9a-f-]{36}$"))
    page.reload()
    expect(reply).to_have_text(said)
    expect(page.locator(".chat-user")).to_contain_text("Tell me about the sea.")
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


def test_the_settings_show_the_gateway_as_the_connection_and_the_models_that_talk(
    stack: RealStack, watch: Watch
) -> None:
    page = watch.new_page()
    sign_in(page, ADMINISTRATOR, stack.password)
    with page.expect_response(LAST_OF_A_PAGE):
        page.goto("/admin/settings/connections")
    expect(page.get_by_text("Manage Ollama API Connections")).to_be_visible()
    addresses = page.locator("input").evaluate_all("inputs => inputs.map(input => input.value)")
    assert [address for address in addresses if address.startswith("http")] == [
        f"http://127.0.0.1:{stack.settings['gateway.port']}/ollama"
    ]
    with page.expect_response(LAST_OF_A_PAGE):
        page.goto("/admin/settings/models")
    expect(page.get_by_text("demo:latest", exact=True).first).to_be_visible()
    expect(page.get_by_text("all-minilm:latest", exact=True)).to_have_count(0)


@pytest.fixture
def default_limits(stack: RealStack) -> Iterator[None]:
    """The limits that a site has, for a while, in place of those for tests."""
    usual = dict(stack.settings)
    stack.settings |= {f"proxy.limits.{name}": value for name, value in Limits().model_dump().items()}
    stack.write()
    stack.run("up")
    yield
    stack.settings = usual
    stack.write()
    stack.run("up")


@pytest.mark.usefixtures("default_limits")
def test_the_default_limits_let_an_office_open_its_chats_at_once(stack: RealStack, watch: Watch) -> None:
    first = watch.new_page()
    sign_in(first, ADMINISTRATOR, stack.password)
    pages = [first, *(watch.new_page() for _ in range(4))]
    for page in pages:
        page.goto("/", wait_until="commit")
    for page in pages:
        expect(page.locator("#chat-input")).to_be_visible()
