"""Texts of any length leave the page time to answer."""

import pytest
from playwright.sync_api import expect

from tests.feedback.record import add_comparison, sample
from tests.serve.conftest import Tandem
from tests.serve.pages.conftest import IN_CHROMIUM, Visitors

pytestmark = IN_CHROMIUM


TABLE = "| <b>a</b> | **b** |\n|---|---|\n" + "| x | y |\n" * 20_000


@pytest.mark.parametrize("long", [TABLE, "<b>" + "word " * 40_000, "<b>" + 100_000 * "\U0001f600"])
def test_what_is_too_long_for_elements_is_shown_as_it_is(quiet: Tandem, visitors: Visitors, long: str) -> None:
    messages = [{"role": "user", "content": long}]
    add_comparison(quiet.store, sample(long, messages=messages), sample("**short**", 1, messages=messages))
    page = visitors.visit(quiet, "/vote")
    expect(page.locator(".side strong")).to_have_text("short")
    for shown in (page.locator(".prompt .said .prose"), page.locator(".side .prose", has_text="<b>")):
        assert shown.text_content() == long
        pieces = shown.locator("*")
        assert pieces.count() > 10 and pieces.count() == shown.locator("> .as-it-is").count()
        # The browser lays out those that are seen.
        assert pieces.last.evaluate("piece => getComputedStyle(piece).contentVisibility") == "auto"


def test_drawing_takes_a_share_of_the_time(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet)
    share = page.evaluate(
        """async () => {
        const { paced } = await import("/pacing.js");
        const draws = [];
        const draw = paced(() => {
          const began = performance.now();
          while (performance.now() - began < 30);
          draws.push({ began, ended: performance.now() });
        });
        while (draws.length < 6) {
          draw();
          await new Promise((done) => setTimeout(done, 1));
        }
        const spent = draws.slice(0, -1).reduce((sum, { began, ended }) => sum + ended - began, 0);
        return spent / (draws.at(-1).began - draws[0].began);
        }"""
    )
    # Laying out counts as well.
    assert share <= 0.25


def test_what_was_asked_for_last_is_drawn(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet)
    drawn = page.evaluate(
        """async () => {
        const { paced } = await import("/pacing.js");
        let [text, shown] = [0, null];
        const draw = paced(() => { shown = text });
        for (text = 1; text < 50; text++) {
          draw();
          await new Promise((done) => setTimeout(done, 1));
        }
        draw();
        while (shown !== text) await new Promise((done) => setTimeout(done, 1));
        return shown;
        }"""
    )
    assert drawn == 50
