"""Chromium on the app: starting `app.py` in a process of its own, opening its pages, and what every test does there."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, expect

ROOT = Path(__file__).parent.parent
START_SECONDS = 300
WAIT = 60_000  # milliseconds: a machine under load is slow, not broken
ATTEMPTS = 6
# Chromium takes one list of these, so this one stands for Playwright's own as well. The last two load pages of
# Chromium's address bar, which nobody sees, into two processes for each window.
DISABLED_FEATURES = (
    *("AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades", "LensOverlay"),
    *("HttpsFirstBalancedModeAutoEnable", "MediaRouter", "PaintHolding", "ThirdPartyStoragePartitioning"),
    *("AvoidCorsURLLoaderRestartOnRedirect", "OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled"),
    *("PreconnectToSearch", "WebUIOmniboxPopup", "WebUIOmniboxAimPopup"),
)
CHROMIUM_FLAGS = [
    f"--disable-features={','.join(DISABLED_FEATURES)}",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
GOOD_PROMPT = "flamingo, Fluent style"

expect.set_options(timeout=WAIT)


def environment(**settings: str) -> dict[str, str]:
    quiet = {"HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    return {**os.environ, **quiet, **{f"FORWARDINF_{name.upper()}": value for name, value in settings.items()}}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until_up(url: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, f"app.py ended with {server.returncode}:\n{log.read_text()}"
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return  # it asks to sign in
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    pytest.fail(f"app.py did not answer within {START_SECONDS} s:\n{log.read_text()}")


@contextmanager
def running_app(log: Path, variables: dict[str, str] | None = None, /, *, command: Sequence[str] = (), **settings: str):
    """The address of a new app with these settings, and these variables in its environment.

    Started by `app.py`, or by a `command` of the command line.
    """
    from_command_line = ["-c", "from forwardinf.cli.main import main; main()", *command]
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, *(from_command_line if command else ["app.py"])],
            cwd=ROOT,
            env={**environment(port=str(port), **settings), **(variables or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until_up(url, server, log)
            yield url
        finally:
            server.terminate()
            server.wait(30)


@contextmanager
def opened(browser: Browser, url: str, viewport: ViewportSize, color_scheme: str = "light", script: str = ""):
    """A page that may only talk to the app, and must not meet an error of its own; `script` runs before all others."""
    context = browser.new_context(viewport=viewport, color_scheme=color_scheme)
    try:
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.add_init_script(script)
        elsewhere, errors = [], []
        page.on("request", lambda request: _is_elsewhere(request.url) and elsewhere.append(request.url))
        page.on("pageerror", lambda error: errors.append(error))
        page.goto(url)
        yield page
        assert elsewhere == []
        assert errors == []
        assert "Traceback" not in page.locator("body").inner_text()
    finally:
        context.close()


def _is_elsewhere(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def generate(page: Page, prompt: str) -> None:
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_role("button", name="Generate", exact=True).click()


def picture(page: Page):
    return page.locator("#picture img")


def press_stop(page: Page) -> None:
    """As soon as it is there, and not when it has stood still for some frames: a short sweep is over by then."""
    expect(page.locator("#stop")).to_be_visible()
    page.locator("#stop").dispatch_event("click")


def notice(page: Page):
    return page.locator("#notice")


def open_advanced(page: Page) -> None:
    page.get_by_role("button", name="Advanced").click()


def set_field(page: Page, label: str, value: str, then: Callable[[], None], seen: Callable[[float], None]) -> None:
    """Type into a field and act, until `seen(timeout in ms)` holds.

    A field of a fold that has just been opened takes its default a moment after it shows, over what was typed by then.
    """
    for _ in range(ATTEMPTS - 1):
        page.get_by_label(label, exact=True).fill(value)
        then()
        with suppress(AssertionError):
            return seen(WAIT / ATTEMPTS)
    page.get_by_label(label, exact=True).fill(value)
    then()
    return seen(WAIT)


def assert_a_good_prompt_still_works(page: Page) -> None:
    generate(page, GOOD_PROMPT)
    expect(page.locator(".fi-prompt")).to_have_text(f"“{GOOD_PROMPT}”")
    expect(notice(page)).to_be_hidden()
    assert_real_pixels(page)


def assert_real_pixels(page: Page) -> None:
    """More than a handful of colours, so neither broken nor blank."""
    expect(picture(page)).to_be_visible()
    colours = picture(page).evaluate(
        """async (image) => {
            await image.decode();
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
            const seen = new Set();
            for (let i = 0; i < pixels.length; i += 4) seen.add(pixels.slice(i, i + 3).join());
            return seen.size;
        }"""
    )
    assert colours > 8


# A button that has just been enabled again still fades in, and is paler than it will be.
STILL = "document.getAnimations().every((a) => a.effect.getTiming().iterations === Infinity)"


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with a page once all of its parts are loaded, and nothing moves any more."""
    expect(page.locator("p.loading")).to_have_count(0)
    page.wait_for_function(STILL)
    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {node['html']}" for rule in found for node in rule["nodes"]]


def cut_off(page: Page) -> list[str]:
    """What can be pressed or filled in, but reaches beyond the right edge of the screen."""
    beyond = "(found) => found.filter((e) => e.getBoundingClientRect().right > innerWidth).map((e) => e.outerHTML)"
    return page.locator("button:visible, a:visible, input:visible").evaluate_all(beyond)
