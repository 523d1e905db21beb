"""Texts of any length leave the page time to answer."""

from playwright.sync_api import expect

from tests.feedback.record import add_comparison, sample
from tests.serve.conftest import Tandem
from tests.serve.pages.conftest import IN_CHROMIUM, Visitors

pytestmark = IN_CHROMIUM


def test_what_is_too_long_for_elements_is_shown_as_it_is(quiet: Tandem, visitors: Visitors) -> None:
    long = "| <b>a</b> | **b** |\n|---|---|\n" + "| x | y |\n" * 20_000
    add_comparison(quiet.store, sample(long), sample("**short**", 1))
    page = visitors.visit(quiet, "/vote")
    expect(page.locator(".side strong")).to_have_text("short")
    shown = page.locator(".side .prose", has_text="<b>a</b> | **b**")
    expect(shown.locator("*")).to_have_count(1)
    assert shown.text_content() == long


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
