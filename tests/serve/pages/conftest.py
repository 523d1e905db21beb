"""Debian's Chromium looks at the pages, and no page may leave an error in its console."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, Route, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
ROOT_SANDBOX_ARGUMENTS = ["--no-sandbox"]
# What is there at all comes within moments, unless the machine has much else to do.
expect.set_options(timeout=20_000)


# What every test module here says of itself.
IN_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)"),
]


# Not for the whole session: while Playwright's loop runs in this thread, no asynchronous test can.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ROOT_SANDBOX_ARGUMENTS)
        yield chromium
        chromium.close()


class Served(Protocol):
    """Something that runs, with its keys by role."""

    @property
    def url(self) -> str: ...

    @property
    def secrets(self) -> dict[str, str]: ...


class Visitors:
    """People with a browser each. `problems` is what their consoles complained of."""

    def __init__(self, browser: Browser) -> None:
        self.problems: list[str] = []
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._forgiven: list[str] = []
        self._underway: set[Request] = set()

    def visit(
        self, tandem: Served, path: str = "/", role: str | None = "operate", script: Path | None = None, **context: Any
    ) -> Page:
        """A page, signed in with a key of this role or (None) not at all.

        `script` is put into it before its own, past the page's policy, which would let nothing in.
        """
        visitor = self._browser.new_context(base_url=tandem.url, **context)
        self._contexts.append(visitor)
        if role is not None:
            answer = visitor.request.post("/v1/session", data={"key": tandem.secrets[role]})
            assert answer.status == 201, answer.text()
        if script is not None:
            visitor.add_init_script(path=script)
        page = visitor.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda said: self._hear(said.type, said.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", self._begin)
        page.on("requestfinished", self._end)
        page.on("requestfailed", self._end)
        page.goto(path)
        return page

    def wait_until_drawn(self, page: Page) -> None:
        """All that the page has asked for has come, and been drawn."""
        asks = True
        while asks:
            asks = self._asks(page)
            page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            asks |= self._asks(page)

    def _begin(self, request: Request) -> None:
        self._underway.add(request)

    def _end(self, request: Request) -> None:
        self._underway.discard(request)

    def _asks(self, page: Page) -> bool:
        return any(request.frame.page == page for request in self._underway)

    def forgive(self, part: str) -> None:
        """This complaint was to come, and may come again: a page asks for several things at once."""
        left = [problem for problem in self.problems if part not in problem]
        assert left != self.problems, f"nothing complained of {part!r}"
        self.problems[:] = left
        self._forgiven.append(part)

    def leave(self) -> None:
        for visitor in self._contexts:
            visitor.close()

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not any(part in text for part in self._forgiven):
            self.problems.append(text)


def held_back(page: Page, url: str) -> list[Route]:
    """What the page asks for there from now on, in its order: each waits to be let go, or answered."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(url, hold)
    return held


def let_it_settle(page: Page) -> None:
    """Whatever the page does with an answer is done when it has had another one."""
    page.evaluate("fetch('/healthz').then((answer) => answer.text())")


@pytest.fixture
def visitors(browser: Browser) -> Iterator[Visitors]:
    coming = Visitors(browser)
    yield coming
    coming.leave()
    assert coming.problems == []
