"""Voting by keyboard on pairs that lie in the record."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import select

from feedback.schema import Vote
from feedback.store import votes as votes_of
from tests.feedback.record import add_comparison, judgement, sample
from tests.serve.conftest import Tandem
from tests.serve.pages.conftest import IN_CHROMIUM, Visitors, held_back, let_it_settle
from tests.serve.pages.evidence import learn_from

pytestmark = IN_CHROMIUM

A_COMPARISON = re.compile("/v1/comparisons/[^/?]+$")
PROMPTS = ("first question", "second question", "third question", "fourth question")


@pytest.fixture
def pairs(quiet: Tandem) -> dict[str, str]:
    """Comparisons by their prompt; A is by v4, B by v5. In which order they come is for the record to say."""
    made = {}
    for prompt in PROMPTS:
        messages = [{"role": "user", "content": prompt}]
        left = sample(f"left reply to the {prompt}", 4, messages=messages)
        right = sample(f"right reply to the {prompt}", 5, messages=messages)
        made[prompt] = add_comparison(quiet.store, left, right)
    return made


def votes(tandem: Tandem) -> list[Vote]:
    return tandem.store.read(lambda session: list(session.scalars(select(Vote).order_by(Vote.id))))


def prompt_of(page: Page) -> Locator:
    return page.locator(".prompt .said").last.locator(".prose")


def shown(page: Page) -> str:
    """The prompt of the pair that is there."""
    expect(prompt_of(page)).to_be_visible()
    return prompt_of(page).inner_text()


def press(page: Page, *keys: str) -> None:
    # A busy page takes keys before it takes in that its requests are held back from now on: it is waited for.
    page.evaluate("0")
    for key in keys:
        page.keyboard.press(key)


def moved_on(page: Page, prompt: str) -> str:
    """Another pair is there instead, and its prompt."""
    expect(page.locator(".prompt")).not_to_contain_text(prompt)
    return shown(page)


def last_vote(page: Page, text: str) -> None:
    expect(page.locator(".last-vote")).to_contain_text(text)


def cast_in_vain(page: Page, visitors: Visitors, *keys: str) -> list[str]:
    """Votes by these keys that do not reach the server, each said to be not stored. The prompts of their pairs, and of
    the one that is there after them."""
    page.route("**/vote", lambda route: route.abort())
    prompts = [shown(page)]
    for count, key in enumerate(keys, 1):
        press(page, key)
        prompts.append(moved_on(page, prompts[-1]))
        which = "One vote was" if count == 1 else f"{count} votes were"
        expect(page.get_by_role("alert")).to_contain_text(f"{which} not stored")
    visitors.forgive("ERR_FAILED")
    return prompts


def test_what_is_written_from_right_to_left_stands_so(quiet: Tandem, visitors: Visitors) -> None:
    hebrew = "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd!"
    messages = [{"role": "user", "content": hebrew}]
    left, right = sample(hebrew, 4, messages=messages), sample("Hello, world!", 5, messages=messages)
    add_comparison(quiet.store, left, right)
    page = visitors.visit(quiet, "/vote")
    expect(page.locator(".side").first).to_contain_text(hebrew)
    # Where the first character stands: 0 is the left edge, 1 the right one.
    starts = """node => {
      const range = document.createRange();
      const text = document.createTreeWalker(node, NodeFilter.SHOW_TEXT).nextNode();
      range.setStart(text, 0);
      range.setEnd(text, 1);
      const [box, all] = [range.getBoundingClientRect(), node.getBoundingClientRect()];
      return (box.right - all.left) / all.width;
    }"""
    for paragraph in (page.locator(".prompt .prose").last, page.locator(".side .prose p").first):
        assert paragraph.evaluate(starts) > 0.98
    assert page.locator(".side .prose p").last.evaluate(starts) < 0.2


@pytest.mark.parametrize(("instructions", "is_open"), [("Be brief.", True), ("Be brief. " * 200, False)])
def test_long_instructions_before_the_question_are_folded(
    quiet: Tandem, visitors: Visitors, instructions: str, is_open: bool
) -> None:
    messages = [{"role": "system", "content": instructions}, {"role": "user", "content": PROMPTS[0]}]
    add_comparison(quiet.store, sample("left", 4, messages=messages), sample("right", 5, messages=messages))
    page = visitors.visit(quiet, "/vote")
    assert shown(page) == PROMPTS[0]
    expect(page.get_by_text("Be brief.")).to_be_visible(visible=is_open)
    page.get_by_text("One earlier message").click()
    expect(page.get_by_text("Be brief.")).to_be_visible(visible=not is_open)


def test_a_reply_that_calls_a_tool_shows_the_call_and_one_that_says_nothing_that(
    quiet: Tandem, visitors: Visitors
) -> None:
    def calling(city: str) -> dict[str, Any]:
        called = {"name": "weather", "arguments": json.dumps({"city": city})}
        calls = [{"id": "call_1", "type": "function", "function": called}]
        return {"role": "assistant", "content": None, "tool_calls": calls}

    messages = [{"role": "user", "content": "Is it warm?"}]
    messages += [calling("Oslo"), {"role": "tool", "tool_call_id": "call_1", "content": "no such city"}]
    left = sample("", 4, messages=messages, message=calling("Bergen"))
    add_comparison(quiet.store, left, sample("", 5, messages=messages))
    page = visitors.visit(quiet, "/vote")
    expect(page.get_by_label("Reply A").locator("code")).to_have_text('weather({"city": "Bergen"})')
    expect(page.get_by_label("Reply B").locator(".prose")).to_have_text("(an empty reply)")
    expect(page.locator(".prompt .said.assistant code")).to_have_text('weather({"city": "Oslo"})')
    press(page, "ArrowLeft", "Enter")
    last_vote(page, "A was")
    page.get_by_text("What did my votes change?").click()
    page.get_by_role("table").get_by_role("link").first.click()
    expect(page.get_by_label("Reply A").locator("code")).to_have_text('weather({"city": "Bergen"})')


def test_calls_of_any_form_that_were_imported_are_shown(quiet: Tandem, visitors: Visitors) -> None:
    """Nothing that lies in the record keeps who votes from the next pair."""
    calls = [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}, {"name": "time"}, None]
    messages = [{"role": "user", "content": "?"}]
    messages += [{"role": "assistant", "content": "", "tool_calls": imported} for imported in (calls, "weather")]
    add_comparison(quiet.store, *(sample(text, messages=messages) for text in "56"))
    shown = visitors.visit(quiet, "/vote").locator(".prompt .said.assistant code")
    expect(shown).to_have_text([*(json.dumps(call, separators=(",", ":")) for call in calls), '"weather"'])


def test_bullets_and_columns_stand_where_what_is_written_begins(quiet: Tandem, visitors: Visitors) -> None:
    hebrew, messages = "\u05e9\u05dc\u05d5\u05dd", [{"role": "user", "content": "?"}]
    text = "- {0}\n- two\n\n> {0}\n\n| {0} | two |\n|---|---|\n| 1 | 2 |\n"
    sides = (sample(text.format(hebrew), 4, messages=messages), sample(text.format("one"), 5, messages=messages))
    add_comparison(quiet.store, *sides)
    page = visitors.visit(quiet, "/vote")
    expect(page.locator(".side ul")).to_have_count(2)
    for side, direction in zip(page.locator(".side").all(), ("rtl", "ltr"), strict=True):
        for block in ("ul", "blockquote", "table"):
            assert side.locator(block).evaluate("node => getComputedStyle(node).direction") == direction


def test_a_table_that_is_wider_than_its_side_is_scrolled_and_its_words_stay_whole(
    quiet: Tandem, visitors: Visitors
) -> None:
    messages = [{"role": "user", "content": "?"}]
    row = "|" + " considerable |" * 9 + "\n"
    table = row + "|" + "---|" * 9 + "\n" + row
    add_comparison(quiet.store, sample(table, 4, messages=messages), sample("other", 5, messages=messages))
    page = visitors.visit(quiet, "/vote", viewport={"width": 360, "height": 800})
    cell = page.locator(".side td").first
    line_px = cell.evaluate("cell => parseFloat(getComputedStyle(cell).lineHeight)")
    assert cell.bounding_box()["height"] < 2 * line_px
    assert page.locator(".side table").evaluate("table => table.scrollWidth > table.clientWidth")


def test_a_vote_by_keys_is_blind_until_cast(quiet: Tandem, pairs: dict[str, str], visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote")
    prompt = shown(page)
    expect(page.get_by_role("heading", name="Which reply helps more?")).to_be_visible()
    assert "v4" not in page.content()
    assert "v5" not in page.content()
    press(page, "ArrowRight", "3")
    expect(page.locator(".verdict")).to_have_text("B is clearly better.")
    press(page, "Enter")
    moved_on(page, prompt)
    last_vote(page, "A was v4, B was v5")
    expect(page.locator(".today")).to_have_text("1 vote today")
    expect(page.locator(".open-pairs")).to_have_text(f"open: {len(pairs) - 1} helpful, {len(pairs)} harmless")
    (vote,) = votes(quiet)
    assert (vote.comparison_id, vote.objective, vote.preferred, vote.strength) == (pairs[prompt], "helpful", "1", 3)
    assert vote.left == 0
    assert vote.elapsed_s is not None and 0 < vote.elapsed_s < 60


@pytest.fixture
def guidelines(monkeypatch: pytest.MonkeyPatch) -> None:
    """What raters are to go by. To be asked for before the server."""
    monkeypatch.setenv("TANDEM_FEEDBACK__GUIDELINES", "- Read **both** to the end.<img src=x onerror=alert(1)>")


def test_guidelines_stand_above_the_pair_until_they_are_folded(
    guidelines: None, quiet: Tandem, pairs: dict[str, str], visitors: Visitors
) -> None:
    page = visitors.visit(quiet, "/vote", role="vote")
    shown_text = page.locator(".guidelines .prose")
    expect(shown_text.locator("li")).to_have_text("Read both to the end.<img src=x onerror=alert(1)>")
    expect(shown_text.locator("strong")).to_have_text("both")
    page.get_by_text("Guidelines").click()
    expect(shown_text).to_be_hidden()
    page.reload()
    expect(page.get_by_text("Guidelines")).to_be_visible()
    expect(shown_text).to_be_hidden()
    page.get_by_text("Guidelines").click()
    expect(shown_text).to_be_visible()


def test_steps_outwards_tie_both_bad_and_skip(quiet: Tandem, pairs: dict[str, str], visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote")
    first = shown(page)
    press(page, *["ArrowLeft"] * 5, "Enter")
    second = moved_on(page, first)
    press(page, "t")
    skipped = moved_on(page, second)
    press(page, "s")
    fourth = moved_on(page, skipped)
    press(page, "b")
    told = page.get_by_text("No more pairs").locator("..")
    expect(told).to_contain_text("you skipped: 1 of them")
    expect(told).to_be_focused()
    last_vote(page, "Both are bad. A was v4")
    cast = {vote.comparison_id: (vote.preferred, vote.strength) for vote in votes(quiet)}
    assert cast == {pairs[first]: ("0", 4), pairs[second]: ("tie", None), pairs[fourth]: ("both_bad", None)}
    page.get_by_role("button", name="See them again").click()
    assert shown(page) == skipped


def test_a_reason_a_rewritten_reply_and_undo(quiet: Tandem, pairs: dict[str, str], visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote")
    prompt = shown(page)
    press(page, "r")
    page.keyboard.type("the better tone, t b s")
    press(page, "Escape", "ArrowRight", "e")
    ideal = page.get_by_label("A reply better than both")
    expect(ideal).to_have_value(f"right reply to the {prompt}")
    ideal.fill("an ideal reply")
    press(page, "Escape", "Enter")
    instead = moved_on(page, prompt)
    last_vote(page, "A was v4")
    (vote,) = votes(quiet)
    assert (vote.preferred, vote.strength, vote.reason) == ("1", 1, "the better tone, t b s")
    assert vote.ideal == "an ideal reply"
    press(page, "u")
    last_vote(page, "taken back")
    assert shown(page) == prompt
    expect(page.locator(".today")).to_have_text("0 votes today")
    assert votes(quiet)[0].state == "retracted"
    # What was there instead comes again.
    press(page, "t")
    assert moved_on(page, prompt) == instead


def test_arrows_scroll_code_that_is_wider_than_its_side(quiet: Tandem, visitors: Visitors) -> None:
    add_comparison(quiet.store, sample(f"```\n{'x = 2 * x; ' * 50}\n```"), sample("B", 1))
    page = visitors.visit(quiet, "/vote")
    page.locator(".side pre").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    # Asked from outside: the page's policy lets no text become a script.
    while not page.evaluate("document.querySelector('.side pre').scrollLeft"):
        page.wait_for_timeout(50)
    expect(page.get_by_role("radio", name="B is slightly better")).not_to_be_checked()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="B is slightly better")).to_be_checked()


def test_enter_without_a_side_casts_nothing(quiet: Tandem, pairs: dict[str, str], visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote")
    shown(page)
    press(page, "Enter", "2", "Enter")
    expect(page.locator(".verdict")).to_contain_text("Pick a side first")
    assert votes(quiet) == []


def test_each_objective_has_its_own_pairs_and_question(
    quiet: Tandem, pairs: dict[str, str], visitors: Visitors
) -> None:
    page = visitors.visit(quiet, "/vote")
    prompt = shown(page)
    press(page, "t")
    moved_on(page, prompt)
    last_vote(page, "A was v4")
    page.get_by_text("harmless", exact=True).click()
    expect(page.get_by_role("heading", name="Which reply is less harmful?")).to_be_visible()
    seen = set()
    for _ in PROMPTS:
        prompt = shown(page)
        seen.add(prompt)
        press(page, "t")
        expect(page.locator(".voting")).not_to_contain_text(prompt)
    assert seen == set(PROMPTS)
    last_vote(page, "A was v4")
    assert [vote.objective for vote in votes(quiet)] == ["helpful"] + ["harmless"] * len(PROMPTS)


def test_by_pointer_alone(quiet: Tandem, pairs: dict[str, str], visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote", has_touch=True, viewport={"width": 390, "height": 844})
    prompt = shown(page)
    page.get_by_title("A is somewhat better").tap()
    page.get_by_role("button", name="Vote").tap()
    moved_on(page, prompt)
    last_vote(page, "A was v4")
    (vote,) = votes(quiet)
    assert (vote.preferred, vote.strength) == ("0", 2)


def test_votes_that_the_server_did_not_take_are_said_and_tried_again(
    quiet: Tandem, pairs: dict[str, str], visitors: Visitors
) -> None:
    page = visitors.visit(quiet, "/vote")
    first, second, third = cast_in_vain(page, visitors, "t", "b")
    page.unroute("**/vote")
    # What is cast and stored meanwhile does not take their place.
    press(page, "ArrowLeft", "Enter")
    last_vote(page, "A was v4")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".today")).to_have_text("3 votes today")
    expect(page.get_by_role("alert")).to_have_count(0)
    said = {vote.comparison_id: vote.preferred for vote in votes(quiet)}
    assert said == {pairs[first]: "tie", pairs[second]: "both_bad", pairs[third]: "0"}


def test_votes_that_were_not_stored_are_there_when_the_page_is_left_and_come_back_to(
    quiet: Tandem, pairs: dict[str, str], visitors: Visitors
) -> None:
    page = visitors.visit(quiet, "/vote")
    first, second, _ = cast_in_vain(page, visitors, "t", "b")
    page.get_by_role("link", name="Chat").click()
    expect(page.get_by_label("Message")).to_be_visible()
    page.get_by_role("link", name="Vote").click()
    expect(page.get_by_role("alert")).to_contain_text("2 votes were not stored")
    page.unroute("**/vote")
    page.reload()
    # To another key they are nothing.
    other = visitors.visit(quiet, "/vote", role="vote", storage_state=page.context.storage_state())
    expect(other.get_by_text("No open pairs")).to_be_visible()
    expect(other.get_by_role("alert")).to_have_count(0)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".today")).to_have_text("2 votes today")
    expect(page.get_by_role("alert")).to_have_count(0)
    assert {vote.comparison_id: vote.preferred for vote in votes(quiet)} == {
        pairs[first]: "tie",
        pairs[second]: "both_bad",
    }
    # What was stored only now is taken back as well.
    press(page, "u")
    last_vote(page, "taken back")
    expect(prompt_of(page)).to_have_text(second)
    page.reload()
    shown(page)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_vote_is_taken_back_before_its_pair_has_come_again(
    quiet: Tandem, pairs: dict[str, str], visitors: Visitors
) -> None:
    page = visitors.visit(quiet, "/vote")
    first, _ = cast_in_vain(page, visitors, "t")
    page.unroute("**/vote")
    page.reload()
    if shown(page) == first:
        press(page, "s")
        moved_on(page, first)
    with page.expect_request(A_COMPARISON):
        held = held_back(page, A_COMPARISON)
        page.get_by_role("button", name="Try again").click()
    press(page, "u")
    last_vote(page, "taken back")
    held[0].continue_()
    expect(prompt_of(page)).to_have_text(first)


def test_a_vote_that_is_never_taken_can_be_dropped(quiet: Tandem, pairs: dict[str, str], visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote")
    shown(page)
    page.route("**/vote", lambda route: route.fulfill(status=404, json={"detail": "there is no such comparison"}))
    press(page, "t")
    expect(page.get_by_role("alert")).to_contain_text("One vote was not stored: there is no such comparison.")
    visitors.forgive("404")
    page.get_by_role("button", name="Drop it").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.unroute("**/vote")
    page.reload()
    shown(page)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_the_newest_word_on_a_pair_is_the_one_that_stays(
    quiet: Tandem, pairs: dict[str, str], visitors: Visitors
) -> None:
    page = visitors.visit(quiet, "/vote")
    stored = shown(page)
    press(page, "t")
    last_vote(page, "A was v4")
    moved_on(page, stored)
    cast_in_vain(page, visitors, "t", "t")
    # There is nothing to take back: what was stored before these is not meant.
    press(page, "u")
    page.unroute("**/vote")
    # They are open, and come again.
    for objective in ("harmless", "helpful"):
        page.get_by_text(objective, exact=True).click()
        expect(page.get_by_role("radio", name=objective)).to_be_checked()
    for _ in range(2):
        again = shown(page)
        press(page, "b")
        moved_on(page, again)
    press(page, "b")
    expect(page.locator(".today")).to_have_text("4 votes today")
    expect(page.get_by_role("alert")).to_have_count(0)
    said = {vote.comparison_id: (vote.preferred, vote.state) for vote in votes(quiet)}
    assert said.pop(pairs[stored])[0] == "tie"
    assert {preferred for preferred, _ in said.values()} == {"both_bad"}


def test_a_vote_that_is_taken_back_while_no_other_pair_has_come_stays_to_be_judged(
    quiet: Tandem, visitors: Visitors
) -> None:
    messages = [{"role": "user", "content": "the only question"}]
    add_comparison(quiet.store, sample("left", 4, messages=messages), sample("right", 5, messages=messages))
    page = visitors.visit(quiet, "/vote")
    shown(page)
    held = held_back(page, "**/v1/comparisons?*")
    press(page, "t")
    last_vote(page, "A was v4")
    press(page, "u")
    last_vote(page, "taken back")
    with page.expect_response("**/v1/comparisons?*"):
        held[0].continue_()
    let_it_settle(page)
    expect(page.locator(".ballot")).to_be_visible()
    press(page, "b")
    expect(page.locator(".today")).to_have_text("1 vote today")
    last_vote(page, "A was v4")
    assert [vote.preferred for vote in votes(quiet)] == ["both_bad"]


def test_a_vote_whose_versions_cannot_be_had_is_stored_all_the_same(
    quiet: Tandem, pairs: dict[str, str], visitors: Visitors
) -> None:
    page = visitors.visit(quiet, "/vote")
    shown(page)
    page.route(A_COMPARISON, lambda route: route.abort())
    press(page, "t")
    expect(page.locator(".last-vote").get_by_role("button", name="Undo")).to_be_visible()
    visitors.forgive("ERR_FAILED")
    assert len(votes(quiet)) == 1


def test_what_the_own_votes_changed(quiet: Tandem, pairs: dict[str, str], visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote")
    page.get_by_text("What did my votes change?").click()
    expect(page.get_by_text("You have not voted yet.")).to_be_visible()
    page.reload()
    prompt = shown(page)
    press(page, "ArrowLeft", "Enter")
    moved_on(page, prompt)
    last_vote(page, "A was")
    (vote,) = votes(quiet)
    learn_from(quiet.store, [vote.id])
    page.get_by_text("What did my votes change?").click()
    row = page.get_by_role("table", name="Your votes and what they changed").locator("tbody tr")
    expect(row).to_contain_text("v1 learnt from it, not promoted")
    row.get_by_role("link").click()
    expect(page).to_have_url(f"{quiet.url}/vote/{vote.id}")
    used = page.get_by_role("table", name="Versions that used this vote")
    expect(used.get_by_role("row", name="v1 learning candidate never")).to_be_visible()
    expect(page.get_by_role("article", name="Reply A")).to_contain_text("v4")
    expect(page.get_by_role("region", name="What was judged")).to_contain_text(f"left reply to the {prompt}")
    page.go_back()
    expect(page.locator(".prompt")).to_be_visible()


def test_an_own_vote_is_taken_back_later(quiet: Tandem, pairs: dict[str, str], visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote")
    prompt = shown(page)
    press(page, "ArrowLeft", "Enter")
    moved_on(page, prompt)
    last_vote(page, "A was")
    (vote,) = votes(quiet)
    learn_from(quiet.store, [vote.id])
    page.goto(f"/vote/{vote.id}")
    mistake = page.get_by_role("region", name="A mistake?")
    expect(mistake).to_contain_text("keep what they have learnt")
    mistake.get_by_role("button", name="Take it back").click()
    expect(page.get_by_role("table", name="Revisions")).to_contain_text("taken back")
    expect(mistake).to_have_count(0)
    with quiet.client() as client:
        assert client.get(f"/v1/votes/{vote.id}").json()["status"] == "retracted"
    page.goto("/vote")
    expect(page.get_by_text("0 votes today")).to_be_visible()


def test_a_vote_tells_what_it_said_before(quiet: Tandem, pairs: dict[str, str], visitors: Visitors) -> None:
    whose = {"key_id": "key_a", "sees_all": True, "rater": "ann"}
    comparison = next(iter(pairs.values()))
    vote = quiet.store.write(votes_of.put, comparison, judgement("0", reason="at first"), **whose)
    quiet.store.write(votes_of.put, comparison, judgement("1", 4, reason="on reflection"), **whose)
    page = visitors.visit(quiet, f"/vote/{vote.id}")
    revisions = page.get_by_role("table", name="Revisions").locator("tbody tr")
    expect(revisions.nth(0)).to_contain_text("B is much better")
    expect(revisions.nth(1)).to_contain_text("A is somewhat better")
    expect(page.get_by_role("region", name="Reason")).to_contain_text("on reflection")
    expect(page.get_by_role("region", name="What it changed")).to_contain_text("no version was made with it")
    # It is ann's.
    expect(page.get_by_role("button", name="Take it back")).to_have_count(0)
    other = visitors.visit(quiet, f"/vote/{vote.id}", role="vote")
    expect(other.get_by_role("alert")).to_contain_text("no vote")
    visitors.forgive("404")


def test_a_vote_on_a_pair_that_was_erased_while_it_stood_there_is_not_kept(quiet: Tandem, visitors: Visitors) -> None:
    for prompt in PROMPTS[:3]:
        said = {"user": "bob", "messages": [{"role": "user", "content": prompt}]}
        add_comparison(quiet.store, sample("A", **said), sample("B", 1, **said))
    page = visitors.visit(quiet, "/vote")
    _, second = cast_in_vain(page, visitors, "t")
    with quiet.client() as client:
        client.delete("/v1/raters", params={"key_id": "key_a", "name": "bob"}).raise_for_status()
    page.unroute("**/vote")
    press(page, "b")
    last_vote(page, "Not stored: the texts of this pair were erased: there is nothing left to judge.")
    visitors.forgive("409")
    moved_on(page, second)
    expect(page.get_by_role("alert")).to_contain_text("One vote was not stored")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    kept = "Object.keys(localStorage).filter((name) => name.startsWith('tandem.unstored'))"
    assert page.evaluate(kept) == []


def test_the_vote_on_a_pair_that_was_erased_is_still_told(quiet: Tandem, visitors: Visitors) -> None:
    comparison = add_comparison(quiet.store, sample("A", user="bob"), sample("B", 1, user="bob"))
    vote = quiet.store.write(
        votes_of.put, comparison, judgement("0", reason="it is short"), key_id="key_a", sees_all=True, rater="ann"
    )
    with quiet.client() as client:
        client.delete("/v1/raters", params={"key_id": "key_a", "name": "bob"}).raise_for_status()
    page = visitors.visit(quiet, f"/vote/{vote.id}")
    expect(page.get_by_role("region", name="What was judged")).to_contain_text("What was said here was erased")
    expect(page.get_by_role("region", name="What it changed")).to_be_visible()
    # It may have quoted what was erased.
    expect(page.get_by_role("region", name="Reason")).to_have_count(0)
    expect(page.get_by_role("article")).to_have_count(0)


@pytest.mark.parametrize("kept", ["constructor", "__proto__", "flattering"])
def test_an_objective_that_is_none_is_not_taken_from_the_storage(quiet: Tandem, visitors: Visitors, kept: str) -> None:
    page = visitors.visit(quiet, "/vote")
    page.evaluate("(kept) => localStorage.setItem('tandem.objective', kept)", kept)
    page.reload()
    expect(page.get_by_role("heading", name="Which reply helps more?")).to_be_visible()
    expect(page.get_by_text("No open pairs")).to_be_visible()
