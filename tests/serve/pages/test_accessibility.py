"""Every page in light and dark, wide and at phone width: axe finds no serious fault, nothing runs over the edge."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Page, expect

from feedback.store import counting, votes
from tests.feedback.record import add_comparison, judgement, sample
from tests.serve.conftest import Tandem
from tests.serve.pages.conftest import IN_CHROMIUM, Visitors
from tests.serve.pages.evidence import add_versions
from tests.serve.pages.test_chat_page import say
from tests.serve.pages.test_conversations import COMPLETIONS, pair_comes, served

pytestmark = IN_CHROMIUM

AXE = Path(__file__).parent / "vendor" / "axe.js"
SERIOUS = ("serious", "critical")
LOOKS: list[tuple[Literal["light", "dark"], int, int]] = [
    ("light", 1280, 860),
    ("dark", 1280, 860),
    ("light", 390, 844),
    ("dark", 390, 844),
]


def sign_in(page: Page) -> None:
    expect(page.get_by_label("Your key")).to_be_visible()


def chat(page: Page) -> None:
    expect(page.get_by_label("Message")).to_be_visible()


def conversation(page: Page) -> None:
    """With a message that is being changed, and code to copy."""
    page.evaluate(
        """async (turns) => { const { key_id } = await (await fetch('/v1/session')).json();
        const chats = [{ id: 'a', updated: 1, turns }];
        localStorage.setItem(`tandem.chats.${key_id}`, JSON.stringify(chats)) }""",
        [
            {"role": "user", "content": "How do I double a number?"},
            {"role": "assistant", "content": f"So:\n\n```\n{'x = 2 * x  # ' * 20}\n```", "version": "v1"},
        ]
        * 2,
    )
    page.reload()
    expect(page.get_by_text("Earlier chats")).to_be_visible()
    if page.locator(".earlier").get_attribute("open") is None:
        page.get_by_text("Earlier chats").click()
    page.get_by_role("button", name="How do I double a number?", exact=True).click()
    expect(page.get_by_role("button", name="Copy the code")).to_have_count(2)
    page.get_by_role("article", name="You").first.hover()
    page.get_by_role("button", name="Edit").first.click()


def settings(page: Page) -> None:
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def named(page: Page) -> None:
    conversation(page)
    page.get_by_role("button", name="Rename or export").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def red_team(page: Page) -> None:
    expect(page.get_by_role("heading", name="Attack the policy")).to_be_visible()


def vote(page: Page) -> None:
    expect(page.locator(".side")).to_have_count(2)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("e")
    page.keyboard.press("Escape")


def operate(page: Page) -> None:
    expect(page.get_by_role("table", name="Ratings")).to_be_visible()


def version(page: Page) -> None:
    expect(page.get_by_role("heading", name="v2")).to_be_visible()


def decision(page: Page) -> None:
    page.get_by_role("button", name="Promote…").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def compared(page: Page) -> None:
    """Two replies of a chat, with one of them to be rewritten."""
    served(page)
    pair_comes(page)
    say(page, "How do I cut a cake?")
    expect(page.locator(".ballot")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("e")


def refused(page: Page) -> None:
    """A message whose reply broke off."""
    served(page)
    page.route(COMPLETIONS, lambda route: route.fulfill(body=""))
    say(page, "How do I cut a cake?")
    expect(page.get_by_role("button", name="Ask again")).to_be_visible()


def rated(page: Page) -> None:
    """An attack that is to be rated."""
    served(page)
    pair_comes(page)
    voted = {"id": "vote_1", "status": "accepted", "versions": ["v0", "v1"]}
    page.route("**/v1/comparisons/cmp_1*", lambda route: route.fulfill(json=voted))
    page.route("**/v1/comparisons/cmp_1/vote", lambda route: route.fulfill(json=voted))
    page.get_by_role("button", name="New attack").click()
    say(page, "Insult me.")
    expect(page.locator(".ballot")).to_be_focused()
    page.keyboard.press("b")
    expect(page.get_by_label("Message")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("form", name="How far the attack got")).to_be_focused()
    page.keyboard.press("3")


def unstored(page: Page) -> None:
    """A vote that was not stored, one that was, and what became of all."""
    page.route("**/vote", lambda route: route.abort())
    vote(page)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Drop it")).to_be_visible()
    page.get_by_text("What did my votes change?").click()
    expect(page.get_by_text("You have not voted yet.")).to_be_visible()


def found(page: Page) -> None:
    """Votes that were found, a request that was looked up, and a rater who is to be set apart."""
    operate(page)
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_role("table", name="Votes")).to_be_visible()
    page.get_by_label("Request id").fill("req_none")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing is recorded for this request.")).to_be_visible()


def set_apart(page: Page) -> None:
    operate(page)
    page.get_by_role("button", name="Set apart").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()


def one_vote(page: Page) -> None:
    found(page)
    page.get_by_role("table", name="Votes").get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="One vote")).to_be_visible()


def nothing(page: Page) -> None:
    expect(page.get_by_role("heading", name="Nothing here")).to_be_visible()


def elsewhere(page: Page) -> None:
    expect(page.get_by_text("needs a key with the role")).to_be_visible()


PAGES: list[tuple[str, str, str | None, Callable[[Page], None]]] = [
    ("sign-in", "/", None, sign_in),
    ("chat", "/", "operate", chat),
    ("conversation", "/", "operate", conversation),
    ("settings", "/", "operate", settings),
    ("named", "/", "operate", named),
    ("red-team", "/red-team", "operate", red_team),
    ("vote", "/vote", "operate", vote),
    ("operate", "/operate", "operate", operate),
    ("version", "/operate/v2", "operate", version),
    ("decision", "/operate/v2", "operate", decision),
    ("compared", "/", "operate", compared),
    ("refused", "/", "operate", refused),
    ("rated", "/", "operate", rated),
    ("unstored", "/vote", "operate", unstored),
    ("found", "/operate", "operate", found),
    ("set-apart", "/operate", "operate", set_apart),
    ("one-vote", "/operate", "operate", one_vote),
    ("nothing", "/nothing", "operate", nothing),
    ("elsewhere", "/operate", "vote", elsewhere),
]

# What a page's console complains of.
COMPLAINTS = {"unstored": "ERR_FAILED", "nothing": "404"}


@pytest.mark.parametrize(("name", "path", "role", "arrive"), PAGES, ids=[page[0] for page in PAGES])
def test_no_serious_fault(
    quiet: Tandem, visitors: Visitors, name: str, path: str, role: str | None, arrive: Callable[[Page], None]
) -> None:
    populate(quiet)
    for scheme, width, height in LOOKS:
        look: dict[str, Any] = {"color_scheme": scheme, "viewport": {"width": width, "height": height}}
        page = visitors.visit(quiet, path, role, AXE, **look)
        arrive(page)
        visitors.wait_until_drawn(page)
        assert faults(page) == [], f"{name}, {scheme}, {width} wide"
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, f"{name} is {over} pixels too wide at {width}"
    if name in COMPLAINTS:
        visitors.forgive(COMPLAINTS[name])


def faults(page: Page) -> list[dict[str, Any]]:
    """axe's serious findings, each with the elements that it is about."""
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        {"id": one["id"], "help": one["help"], "nodes": [node["html"][:200] for node in one["nodes"]]}
        for one in found["violations"]
        if one["impact"] in SERIOUS
    ]


def populate(tandem: Tandem) -> None:
    add_versions(tandem.store)
    for number in range(6):
        messages = [{"role": "user", "content": f"question {number}"}]
        pair = (
            sample("Use a **knife**.\n\n| a | b |\n|---|--:|\n| 1 | 2 |", number % 3, messages=messages),
            sample("No.", (number + 1) % 3, messages=messages),
        )
        comparison = add_comparison(tandem.store, *pair)
        if number:
            for objective in ("helpful", "harmless"):
                tandem.store.write(
                    votes.put,
                    comparison,
                    judgement(str(number % 2), objective=objective),
                    key_id="key_a",
                    sees_all=True,
                    rater="",
                )
    tandem.store.write(counting.count_accepted)
