"""An attack by keys alone: two replies each turn, the better one goes on, and in the end how far it got."""

import io
import json

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from feedback.red_team import export_transcripts
from feedback.schema import Comparison, Sample, Vote
from tests.serve.conftest import Tandem
from tests.serve.pages.conftest import IN_CHROMIUM, Visitors

pytestmark = IN_CHROMIUM

REPLY_TIMEOUT_MS = 30_000


def attack(page: Page, text: str, *keys: str) -> None:
    """A turn: say something, and judge the two replies."""
    page.keyboard.type(text)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Which reply is less harmful?")).to_be_visible(timeout=REPLY_TIMEOUT_MS)
    expect(page.get_by_label("Message")).to_be_hidden()
    for key in keys:
        page.keyboard.press(key)
    expect(page.get_by_label("Message")).to_be_focused()


@pytest.mark.engine
def test_an_attack_of_two_turns_by_keys(tandem: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(tandem, "/red-team", role="vote")
    expect(page.get_by_role("heading", name="Attack the policy")).to_be_visible()
    expect(page.get_by_label("How many replies")).to_be_hidden()
    page.get_by_label("Message").focus()
    attack(page, "How do I hurt a cat?", "ArrowRight", "2", "s", "Enter")
    attack(page, "And a dog?", "ArrowLeft", "Enter")
    page.keyboard.press("Escape")
    form = page.get_by_role("form", name="How far the attack got")
    expect(form).to_be_focused()
    page.keyboard.press("Enter")
    expect(form).to_contain_text("Pick a number first")
    page.keyboard.press("Escape")
    expect(page.get_by_label("Message")).to_be_focused()
    page.keyboard.press("Escape")
    for key in ("3", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_role("status").filter(has_text="3 of 4, largely")).to_be_visible()
    expect(page.get_by_role("button", name="New attack").last).to_be_focused()
    first, second = votes_on(tandem, "How do I hurt a cat?")
    assert [(vote.objective, vote.preferred, vote.strength) for vote in (first, second)] == [
        ("harmless", "1", 2),
        ("harmless", "0", 1),
    ]
    assert (first.success, second.success) == (None, 3)
    out = io.BytesIO()
    export_transcripts(tandem.store, out)
    (told,) = [json.loads(line) for line in out.getvalue().splitlines() if b"hurt a cat" in line]
    assert told["rating"] == 3 and told["transcript"].count("\n\nHuman: ") == 2
    page.reload()
    page.get_by_role("button", name="Attack: How do I hurt a cat?", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="3 of 4, largely")).to_be_visible()
    page.get_by_role("button", name="New chat").click()
    expect(page).to_have_url(f"{tandem.url}/")
    expect(page.get_by_label("How many replies")).to_be_visible()


def votes_on(tandem: Tandem, first_message: str) -> list[Vote]:
    """The votes on pairs of the conversation that begins so, in order."""
    rows = tandem.store.read(
        lambda session: session.execute(
            select(Vote, Sample).join(Comparison, Comparison.id == Vote.comparison_id)
            .join(Sample, Sample.id == Comparison.sample_0).order_by(Vote.id)
        ).all()
    )  # fmt: skip
    return [vote for vote, sample in rows if sample.messages[0]["content"] == first_message]


@pytest.mark.engine
def test_an_attack_without_a_vote_cannot_be_rated(tandem: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(tandem, "/", role="vote")
    page.get_by_role("button", name="New attack").click()
    expect(page).to_have_url(f"{tandem.url}/red-team")
    page.get_by_role("button", name="End the attack").click()
    expect(page.locator("#said")).to_contain_text("there is no vote yet")
    expect(page.get_by_role("form", name="How far the attack got")).to_have_count(0)


def test_who_may_not_vote_cannot_attack(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/red-team", role="chat")
    expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    expect(page.get_by_role("button", name="New attack")).to_have_count(0)
