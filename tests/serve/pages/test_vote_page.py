"""Voting by keyboard on pairs that lie in the record."""

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from feedback.schema import Vote
from tests.feedback.record import add_comparison, sample
from tests.serve.conftest import Tandem
from tests.serve.pages.conftest import Visitors

PROMPTS = ("first question", "second question", "third question", "fourth question")


@pytest.fixture
def pairs(quiet: Tandem) -> list[str]:
    """Comparisons, the one to be voted on first in front; A is by v4, B by v5."""
    made = []
    for prompt in reversed(PROMPTS):
        messages = [{"role": "user", "content": prompt}]
        left, right = (
            sample(f"{side} reply to the {prompt}", version, messages=messages)
            for side, version in (("left", 4), ("right", 5))
        )
        made.insert(0, add_comparison(quiet.store, left, right))
    return made


def votes(tandem: Tandem) -> list[Vote]:
    return tandem.store.read(lambda session: list(session.scalars(select(Vote).order_by(Vote.id))))


def shows(page: Page, prompt: str) -> None:
    expect(page.locator(".prompt")).to_contain_text(prompt)


def last_vote(page: Page, text: str) -> None:
    expect(page.locator(".last-vote")).to_contain_text(text)


def test_a_vote_by_keys_is_blind_until_cast(quiet: Tandem, pairs: list[str], visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote")
    shows(page, "first question")
    expect(page.get_by_role("heading", name="Which reply helps more?")).to_be_visible()
    assert "v4" not in page.content()
    assert "v5" not in page.content()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("3")
    expect(page.locator(".verdict")).to_have_text("B is clearly better.")
    page.keyboard.press("Enter")
    shows(page, "second question")
    last_vote(page, "A was v4, B was v5")
    expect(page.locator(".today")).to_have_text("1 vote today")
    (vote,) = votes(quiet)
    assert (vote.comparison_id, vote.objective, vote.preferred, vote.strength) == (pairs[0], "helpful", "1", 3)


def test_steps_outwards_tie_both_bad_and_skip(quiet: Tandem, pairs: list[str], visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote")
    shows(page, "first question")
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    shows(page, "second question")
    page.keyboard.press("t")
    shows(page, "third question")
    page.keyboard.press("s")
    shows(page, "fourth question")
    page.keyboard.press("b")
    expect(page.get_by_text("No open pairs")).to_be_visible()
    last_vote(page, "Both are bad")
    cast = {vote.comparison_id: (vote.preferred, vote.strength) for vote in votes(quiet)}
    assert cast == {pairs[0]: ("0", 4), pairs[1]: ("tie", None), pairs[3]: ("both_bad", None)}
    page.get_by_role("button", name="Look again").click()
    shows(page, "third question")


def test_a_reason_a_rewritten_reply_and_undo(quiet: Tandem, pairs: list[str], visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote")
    shows(page, "first question")
    page.keyboard.press("r")
    page.keyboard.type("the better tone, t b s")
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("e")
    expect(page.get_by_label("A reply better than both")).to_have_value("right reply to the first question")
    page.get_by_label("A reply better than both").fill("an ideal reply")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    shows(page, "second question")
    last_vote(page, "A was v4")
    (vote,) = votes(quiet)
    assert (vote.preferred, vote.strength, vote.reason, vote.ideal) == (
        "1",
        1,
        "the better tone, t b s",
        "an ideal reply",
    )
    page.keyboard.press("u")
    shows(page, "first question")
    last_vote(page, "taken back")
    expect(page.locator(".today")).to_have_text("0 votes today")
    assert votes(quiet)[0].state == "retracted"


def test_enter_without_a_side_casts_nothing(quiet: Tandem, pairs: list[str], visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote")
    shows(page, "first question")
    for key in ("Enter", "2", "Enter"):
        page.keyboard.press(key)
    expect(page.locator(".verdict")).to_contain_text("Pick a side first")
    assert votes(quiet) == []


def test_each_objective_has_its_own_pairs_and_question(quiet: Tandem, pairs: list[str], visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote")
    shows(page, "first question")
    page.keyboard.press("t")
    shows(page, "second question")
    last_vote(page, "A was v4")
    page.get_by_text("harmless", exact=True).click()
    expect(page.get_by_role("heading", name="Which reply is less harmful?")).to_be_visible()
    shows(page, "first question")
    page.keyboard.press("t")
    shows(page, "second question")
    last_vote(page, "A was v4")
    assert [vote.objective for vote in votes(quiet)] == ["helpful", "harmless"]


def test_by_pointer_alone(quiet: Tandem, pairs: list[str], visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote", has_touch=True, viewport={"width": 390, "height": 844})
    shows(page, "first question")
    page.get_by_title("A is somewhat better").tap()
    page.get_by_role("button", name="Vote").tap()
    shows(page, "second question")
    last_vote(page, "A was v4")
    (vote,) = votes(quiet)
    assert (vote.preferred, vote.strength) == ("0", 2)


def test_a_vote_that_the_server_did_not_take_is_said_and_tried_again(
    quiet: Tandem, pairs: list[str], visitors: Visitors
) -> None:
    page = visitors.visit(quiet, "/vote")
    shows(page, "first question")
    page.route("**/vote", lambda route: route.abort())
    page.keyboard.press("t")
    last_vote(page, "Not stored")
    visitors.forgive("ERR_FAILED")
    expect(page.locator(".today")).to_have_text("0 votes today")
    page.unroute("**/vote")
    page.get_by_role("button", name="Try again").click()
    last_vote(page, "A was v4")
    assert [vote.comparison_id for vote in votes(quiet)] == [pairs[0]]
