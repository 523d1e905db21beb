"""The whole loop as one person goes round it in a browser: chat, vote, learn, promote, chat with what was learnt, roll
back. Only the many votes that an iteration wants are cast by simulated people.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.serve.pages.conftest import IN_CHROMIUM, Visitors, browser, visitors  # noqa: F401
from tests.stack import Stack, running_stack

LOOP_ENV = {"TANDEM_LOOP__AUTOMATIC": "false", "TANDEM_LEARNER__PPO__STEPS": "4"}
REPLY_TIMEOUT_MS = 30_000
SWAP_TIMEOUT_MS = 60_000
ITERATION_TIMEOUT_MS = 600_000

pytestmark = [*IN_CHROMIUM, pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("browser") / "home", **LOOP_ENV) as stack:
        yield stack


def test_once_round_the_loop(stack: Stack, visitors: Visitors) -> None:  # noqa: F811
    page = visitors.visit(stack, "/operate")
    expect(next_step(page)).to_contain_text("Chat and vote")
    page.get_by_role("link", name="Chat", exact=True).first.click()
    chat_and_vote(page)
    stack.tandem("simulate", "--votes", "300")
    page.get_by_role("link", name="Operate").click()
    expect(next_step(page)).to_contain_text("Start an iteration", timeout=REPLY_TIMEOUT_MS)
    page.get_by_role("button", name="Start an iteration").click()
    card = page.get_by_role("region", name="The running iteration")
    expect(card.get_by_role("img", name="Reward against distance")).to_be_visible(timeout=ITERATION_TIMEOUT_MS)
    expect(card).to_contain_text("The iteration made v1", timeout=ITERATION_TIMEOUT_MS)
    card.get_by_role("link", name="v1").click()
    expect(page.get_by_role("region", name="Evaluation", exact=True)).to_contain_text("Win rate")
    decide(page, "Promote…", "Promote v1", "Roll back…")
    page.get_by_role("link", name="Chat", exact=True).click()
    assert version_of_a_reply(page) == "v1"
    page.goto("/operate/v1")
    decide(page, "Roll back…", "Roll back", "Promote…")
    expect(page.get_by_role("region", name="Decisions").locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Chat", exact=True).click()
    assert version_of_a_reply(page) == "v0"


def next_step(page: Page) -> Locator:
    return page.get_by_role("region", name="First steps").locator("[aria-current=step]")


def chat_and_vote(page: Page) -> None:
    page.get_by_label("How many replies").select_option("always")
    page.get_by_label("Message").fill("Tell me the colour of snow.")
    page.keyboard.press("Enter")
    expect(page.locator(".ballot")).to_be_visible(timeout=REPLY_TIMEOUT_MS)
    for key in ("ArrowLeft", "2", "Enter"):
        page.keyboard.press(key)
    expect(page.locator(".turn.assistant footer")).to_contain_text("A is somewhat better")


def version_of_a_reply(page: Page) -> str:
    page.get_by_label("How many replies").select_option("never")
    page.get_by_label("Message").fill("Tell me the colour of snow.")
    page.keyboard.press("Enter")
    version = page.locator(".turn.assistant:not(.writing) .version")
    expect(version).to_be_visible(timeout=REPLY_TIMEOUT_MS)
    return version.inner_text()


def decide(page: Page, what: str, confirm: str, then: str) -> None:
    page.get_by_role("button", name=what).click()
    page.get_by_label("Reason").fill("the test says so")
    page.get_by_role("dialog").get_by_role("button", name=confirm).click()
    expect(page.get_by_role("button", name=then)).to_be_visible(timeout=SWAP_TIMEOUT_MS)
