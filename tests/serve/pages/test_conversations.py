"""What a person does with a conversation of the chat page: change a message, set, copy, name, find, write out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect
from sqlalchemy import select

from feedback.schema import Comparison, Sample, Vote
from serve.chat.completions import conversation_number
from tests.serve.conftest import Tandem
from tests.serve.pages.conftest import IN_CHROMIUM, Visitors, held_back, let_it_settle
from tests.serve.pages.test_chat_page import REPLY_TIMEOUT_MS, compare, replies, say

pytestmark = IN_CHROMIUM

COMPLETIONS = "**/v1/chat/completions"


def newest_sample(tandem: Tandem) -> Sample:
    return tandem.store.read(lambda session: session.scalars(select(Sample).order_by(Sample.id.desc()).limit(1)).one())


def answers(text: str, asked: list[Any] | None = None) -> Callable[[Route], None]:
    """A server that says this to all, and notes what it was asked."""

    def answer(route: Route) -> None:
        if asked is not None:
            asked.append(route.request.post_data_json)
        chunk = {"system_fingerprint": "v0", "choices": [{"index": 0, "delta": {"content": text}}]}
        route.fulfill(body=f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n", content_type="text/event-stream")

    return answer


def chatting(
    quiet: Tandem, visitors: Visitors, text: str = "Yes.", asked: list[Any] | None = None, **look: Any
) -> Page:
    """A chat with a server that says this to all."""
    page = visitors.visit(quiet, role="chat", **look)
    served(page)
    page.route(COMPLETIONS, answers(text, asked))
    return page


def served(page: Page) -> None:
    """As if an engine served: what is asked of it is answered by the test."""
    page.route("**/v1/models", lambda route: route.fulfill(json={"object": "list", "data": [{"id": "tandem"}]}))
    page.reload()
    expect(page.get_by_role("button", name="Send")).to_be_enabled()


@pytest.mark.engine
def test_an_earlier_message_is_changed_and_the_vote_after_it_stays(tandem: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(tandem, role="vote")
    compare(page, "never")
    say(page, "What is the capital of Norway?")
    replies(page, 1)
    first = newest_sample(tandem)
    compare(page, "always")
    say(page, "And of Spain?")
    expect(page.locator(".ballot")).to_be_visible(timeout=REPLY_TIMEOUT_MS)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    replies(page, 2)
    compare(page, "never")
    say(page, "Thank you.")
    replies(page, 3)
    page.get_by_role("article", name="You").nth(1).get_by_role("button", name="Edit").click()
    text = page.get_by_role("textbox", name="Your message, changed")
    expect(text).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".turn")).to_have_count(6)
    page.get_by_role("article", name="You").nth(1).get_by_role("button", name="Edit").click()
    text.fill("And of Italy?")
    page.keyboard.press("Enter")
    replies(page, 2)
    expect(page.locator(".turn.user .prose")).to_have_text(["What is the capital of Norway?", "And of Italy?"])
    edited = newest_sample(tandem)
    assert [message["content"] for message in edited.messages] == [
        "What is the capital of Norway?",
        first.text,
        "And of Italy?",
    ]
    assert edited.parent == first.id
    assert conversation_number(edited.messages, edited.key_id) == conversation_number(first.messages, first.key_id)
    voted = tandem.store.read(
        lambda session: session.scalars(
            select(Vote).join(Comparison, Comparison.id == Vote.comparison_id)
            .join(Sample, Sample.id == Comparison.sample_0).where(Sample.parent == first.id)
        ).all()
    )  # fmt: skip
    assert [(vote.preferred, vote.state) for vote in voted] in ([("0", "accepted")], [("0", "counted")])
    page.reload()
    page.get_by_role("button", name="What is the capital of Norway?", exact=True).click()
    expect(page.locator(".turn")).to_have_count(4)


@pytest.mark.engine
def test_settings_go_with_the_chat_and_with_every_new_one_if_wanted(tandem: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(tandem, role="chat")
    page.get_by_role("button", name="Settings").click()
    dialog = page.get_by_role("dialog", name="Settings of this chat")
    dialog.get_by_label("System prompt").fill("Be brief.")
    dialog.get_by_label("Temperature").fill("3")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_visible()
    dialog.get_by_label("Temperature").fill("0.25")
    dialog.get_by_label("Longest reply").fill("2")
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name="Settings: changed")).to_be_focused()
    say(page, "Name three fruits.")
    replies(page, 1)
    expect(page.locator(".turn.assistant footer")).to_contain_text("cut off at the longest reply")
    sample = newest_sample(tandem)
    assert sample.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Name three fruits."},
    ]
    assert (sample.sampling["temperature"], sample.sampling["max_completion_tokens"]) == (0.25, 2)
    page.get_by_role("button", name="New chat").click()
    expect(page.get_by_role("button", name="Settings", exact=True)).to_be_visible()
    page.get_by_role("button", name="Name three fruits.", exact=True).click()
    page.reload()
    page.get_by_role("button", name="Settings: changed").click()
    expect(dialog.get_by_label("System prompt")).to_have_value("Be brief.")
    dialog.get_by_label("System prompt").fill("")
    dialog.get_by_label("Longest reply").fill("")
    dialog.get_by_label("For every new chat, too").check()
    dialog.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="New chat").click()
    say(page, "Name three animals.")
    replies(page, 1)
    sample = newest_sample(tandem)
    assert sample.messages == [{"role": "user", "content": "Name three animals."}]
    assert sample.sampling["temperature"] == 0.25 and "max_completion_tokens" not in sample.sampling


def test_a_second_message_after_a_failure_is_said_with_the_first(quiet: Tandem, visitors: Visitors) -> None:
    asked: list[Any] = []
    page = chatting(quiet, visitors, asked=asked)
    refused = {"error": {"message": "all engines are down"}}
    page.route(COMPLETIONS, lambda route: route.fulfill(status=503, json=refused))
    say(page, "What is 2 + 2?")
    expect(page.locator(".problem")).to_contain_text("No reply: all engines are down.")
    visitors.forgive("503")
    page.unroute(COMPLETIONS)
    page.route(COMPLETIONS, answers("4", asked))
    say(page, "In words, please.")
    replies(page, 1)
    said = "What is 2 + 2?\n\nIn words, please."
    assert [one["messages"] for one in asked] == [[{"role": "user", "content": said}]]
    expect(page.locator(".turn.user .prose")).to_have_text(said, use_inner_text=True)


@pytest.mark.parametrize("clipboard", ["there", "missing"])
def test_code_is_copied(quiet: Tandem, visitors: Visitors, tmp_path: Path, clipboard: str) -> None:
    code = 'for x in "ab":\n    print(x < 1)\n'
    script = tmp_path / "script.js"
    # As where the page came over plain HTTP from another machine.
    gone = "Object.defineProperty(navigator, 'clipboard', { value: undefined })"
    script.write_text(gone if clipboard == "missing" else "")
    page = visitors.visit(quiet, role="chat", script=script, permissions=["clipboard-read", "clipboard-write"])
    served(page)
    page.route(COMPLETIONS, answers(f"So:\n\n```python\n{code}```\n\nor `y`."))
    say(page, "Show me")
    replies(page, 1)
    expect(page.get_by_role("button", name="Copy the code")).to_have_count(1)
    page.get_by_role("button", name="Copy the code").click()
    expect(page.locator("#said")).to_have_text("Copied")
    page.get_by_label("Message").focus()
    page.keyboard.press("ControlOrMeta+V")
    expect(page.get_by_label("Message")).to_have_value(code)


def test_the_button_that_copies_lies_over_none_of_the_code(quiet: Tandem, visitors: Visitors) -> None:
    page = chatting(quiet, visitors, f"```\n{'x = 2 * x  # ' * 20}\n```", viewport={"width": 360, "height": 740})
    say(page, "Show me")
    replies(page, 1)
    button = page.get_by_role("button", name="Copy the code").bounding_box()
    code = page.locator(".turn.assistant pre code").bounding_box()
    assert button is not None and code is not None
    assert button["y"] + button["height"] <= code["y"]


def test_a_chat_is_named_found_and_written_out(quiet: Tandem, visitors: Visitors) -> None:
    page = chatting(quiet, visitors, "It is **Paris**.")
    say(page, "What is the capital of France?")
    replies(page, 1)
    page.get_by_role("button", name="New chat").click()
    say(page, "A second chat")
    replies(page, 1)
    page.get_by_role("button", name="Rename or export").click()
    dialog = page.get_by_role("dialog", name="This chat")
    expect(dialog.get_by_label("Name")).to_be_focused()
    dialog.get_by_label("Name").fill("../<b>Ünïcode</b> \u202etxt.exe")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("../<b>Ünïcode</b> \u202etxt.exe")
    titles = page.locator(".chat-title")
    expect(titles).to_have_count(2)
    page.get_by_label("Search chats").fill("ünïcode")
    expect(titles).to_have_count(1)
    page.get_by_label("Search chats").fill("CAPITAL of")
    expect(titles).to_have_text(["What is the capital of France?"])
    page.get_by_label("Search chats").fill("nobody said this")
    expect(page.get_by_text("No chat says this.")).to_be_visible()
    page.get_by_label("Search chats").fill("")
    page.get_by_role("button", name="Rename or export").click()
    with page.expect_download() as coming:
        dialog.get_by_role("button", name="Export Markdown").click()
    assert coming.value.suggested_filename == "b-Ünïcode-b-txt-exe.md"
    assert coming.value.path().read_text() == (
        "# ../<b>Ünïcode</b> \u202etxt.exe\n\n## You\n\nA second chat\n\n## Tandem (v0)\n\nIt is **Paris**.\n"
    )
    with page.expect_download() as coming:
        dialog.get_by_role("button", name="Export JSON").click()
    told = json.loads(coming.value.path().read_text())
    assert told["messages"] == [
        {"role": "user", "content": "A second chat"},
        {"role": "assistant", "content": "It is **Paris**."},
    ]
    assert told["turns"][1]["version"] == "v0"
    dialog.get_by_label("Name").fill("")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("A second chat")


def test_a_name_that_runs_from_right_to_left_is_cut_at_its_end(quiet: Tandem, visitors: Visitors) -> None:
    page = chatting(quiet, visitors)
    say(page, "مرحبا " * 20)
    replies(page, 1)
    for shown in (page.locator(".chat-title"), page.get_by_role("heading", level=1)):
        first = shown.evaluate("""node => {
          const range = document.createRange();
          range.setStart(node.firstChild, 0);
          range.setEnd(node.firstChild, 1);
          return [range.getBoundingClientRect().right, node.getBoundingClientRect().right];
        }""")
        assert first[0] <= first[1]


def test_back_and_forward_lead_from_chat_to_chat(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, role="vote")
    served(page)
    compare(page, "never")
    page.route(COMPLETIONS, answers("Yes."))
    for question in ("The first", "The second"):
        page.get_by_role("button", name="New chat").click()
        say(page, question)
        replies(page, 1)
    page.get_by_role("button", name="New attack").click()
    expect(page).to_have_url(f"{quiet.url}/red-team")
    heading = page.get_by_role("heading", level=1)
    for name in ("The second", "The first"):
        page.go_back()
        expect(heading).to_have_text(name)
        expect(page).to_have_url(f"{quiet.url}/")
    # What is opened already is no step of its own.
    page.get_by_role("button", name="The first", exact=True).click()
    for name in ("The second", "Attack the policy"):
        page.go_forward()
        expect(heading).to_have_text(name)
    page.go_back()
    # A link within the page leads to nothing else.
    page.locator(".skip-link").focus()
    page.keyboard.press("Enter")
    page.go_back()
    expect(heading).to_have_text("The second")
    page.get_by_role("link", name="Vote", exact=True).click()
    expect(page.get_by_text("No open pairs")).to_be_visible()
    page.go_back()
    expect(heading).to_have_text("The second")


def test_a_pair_that_is_left_goes_on_with_the_first(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, role="vote")
    served(page)
    pair_comes(page)
    for leave in (page.get_by_role("button", name="New chat"), page.get_by_role("link", name="Vote", exact=True)):
        say(page, "A question")
        expect(page.locator(".ballot")).to_be_visible()
        leave.click()
        expect(page.locator(".ballot")).to_have_count(0)
    assert [[turn["content"] for turn in chat["turns"]] for chat in chats(page)] == [["A question", "Reply 0"]] * 2


def pair_comes(page: Page, more: str = "") -> None:
    """Every message is answered by two replies, as if by an engine."""
    compare(page, "always")
    pair = [{"index": side, "delta": {"content": f"Reply {side}{more}"}} for side in (0, 1)]
    events = f"data: {json.dumps({'comparison_id': 'cmp_1', 'choices': pair})}\n\ndata: [DONE]\n\n"
    page.route(COMPLETIONS, lambda route: route.fulfill(body=events, content_type="text/event-stream"))


def test_a_vote_whose_versions_cannot_be_had_is_stored_and_the_chat_goes_on(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, role="vote")
    served(page)
    pair_comes(page)
    held = held_back(page, "**/v1/comparisons/cmp_1/vote")
    page.route("**/v1/comparisons/cmp_1", lambda route: route.fulfill(status=503, json={"detail": "away"}))
    say(page, "A question")
    expect(page.locator(".ballot")).to_be_focused()
    page.keyboard.press("ArrowRight")
    with page.expect_request("**/v1/comparisons/cmp_1/vote"):
        page.keyboard.press("Enter")
    # What is written on meanwhile waits: the vote says what it follows.
    say(page, "Another")
    expect(page.get_by_label("Message")).to_have_value("Another")
    held[0].fulfill(json={"id": "vote_1", "status": "accepted"})
    replies(page, 1)
    expect(page.locator(".turn.assistant > .prose")).to_have_text("Reply 1")
    expect(page.locator(".turn.assistant footer")).to_contain_text("B is slightly better")
    visitors.forgive("503")


def test_a_chat_that_is_deleted_while_its_vote_is_being_stored_does_not_come_again(
    quiet: Tandem, visitors: Visitors
) -> None:
    page = visitors.visit(quiet, role="vote")
    served(page)
    pair_comes(page)
    held = held_back(page, "**/v1/comparisons/cmp_1/vote")
    page.route("**/v1/comparisons/cmp_1", lambda route: route.fulfill(json={"versions": ["v0", "v1"]}))
    say(page, "A question")
    expect(page.locator(".ballot")).to_be_focused()
    with page.expect_request("**/v1/comparisons/cmp_1/vote"):
        page.keyboard.press("t")
    page.get_by_role("button", name="Delete “A question”").click()
    with page.expect_response("**/v1/comparisons/cmp_1"):
        held[0].fulfill(json={"id": "vote_1", "status": "accepted"})
    let_it_settle(page)
    assert chats(page) == []


def test_a_chat_that_is_left_while_its_vote_fails_goes_on_with_the_first(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, role="vote")
    served(page)
    pair_comes(page)
    held = held_back(page, "**/v1/comparisons/cmp_1/vote")
    say(page, "A question")
    expect(page.locator(".ballot")).to_be_focused()
    page.keyboard.press("ArrowRight")
    with page.expect_request("**/v1/comparisons/cmp_1/vote"):
        page.keyboard.press("Enter")
    page.get_by_role("button", name="New chat").click()
    with page.expect_response("**/v1/comparisons/cmp_1/vote"):
        held[0].fulfill(status=503, json={"detail": "away"})
    let_it_settle(page)
    assert [[turn["content"] for turn in chat["turns"]] for chat in chats(page)] == [["A question", "Reply 0"]]
    visitors.forgive("503")


def test_a_vote_on_a_pair_that_was_erased_meanwhile_lets_the_chat_go_on(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, role="vote")
    served(page)
    pair_comes(page)
    page.get_by_role("button", name="New attack").click()
    erased = {"detail": "the texts of this pair were erased"}
    page.route("**/v1/comparisons/cmp_1/vote", lambda route: route.fulfill(status=409, json=erased))
    say(page, "A question")
    expect(page.locator(".ballot")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    reply = page.locator(".turn.assistant")
    expect(reply.locator("> .prose")).to_have_text("Reply 1")
    expect(reply.locator(".problem")).to_have_text("The vote was not stored: the texts of this pair were erased.")
    expect(page.get_by_label("Message")).to_be_focused()
    visitors.forgive("409")


def test_a_pair_waits_for_its_vote_while_the_chat_is_named_and_set(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, role="vote")
    served(page)
    pair_comes(page)
    say(page, "A question")
    expect(page.locator(".ballot")).to_be_visible()
    page.get_by_role("button", name="Rename or export").click()
    # The ballot's keys, where there is something to be written.
    page.get_by_role("dialog").get_by_label("Name").press_sequentially("t b s")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("t b s")
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Cancel").focus()
    for key in ("t", "s", "Escape"):
        page.keyboard.press(key)
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator(".side .prose")).to_have_text(["Reply 0", "Reply 1"])
    page.get_by_role("button", name="Go on with A").click()
    replies(page, 1)


def test_two_tabs_on_one_chat_lose_nothing(quiet: Tandem, visitors: Visitors) -> None:
    here = chatting(quiet, visitors)
    say(here, "A question")
    replies(here, 1)
    there = here.context.new_page()
    there.goto("/")
    served(there)
    there.get_by_role("button", name="A question", exact=True).click()
    there.route(COMPLETIONS, answers("From there."))
    say(there, "Said there")
    replies(there, 2)
    expect(here.locator(".turn")).to_have_count(4)
    here.unroute(COMPLETIONS)
    held = held_back(here, COMPLETIONS)
    say(here, "At once, here")
    expect(here.get_by_role("button", name="Stop")).to_be_visible()
    say(there, "At once, there")
    replies(there, 3)
    answers("From here.")(held[0])
    replies(here, 3)
    expect(here.locator(".chat-title")).to_have_count(2)
    said = [[turn["content"] for turn in chat["turns"]][-2:] for chat in chats(here)]
    # To the other tab it is a message without a reply.
    assert sorted(said) == [["At once, here", "From here."], ["At once, here\n\nAt once, there", "From there."]]


def chats(page: Page) -> list[Any]:
    """What the browser keeps of them."""
    kept: str = page.evaluate(
        "localStorage.getItem(Object.keys(localStorage).find((name) => name.startsWith('tandem.chats.')))"
    )
    found: list[Any] = json.loads(kept)
    return found


# What replies say, in the order in which they were asked for: `write(at, said)`, `end(at, said)`, and `stop(at)`, as a
# person who wants no more of it.
REPLIES_BY_HAND = """() => { const real = fetch; window.bodies = [];
  const held = () => new Response(new ReadableStream({ start: (body) => { bodies.push(body) } }));
  window.fetch = async (path, ...rest) => path === "/v1/chat/completions" ? held() : real(path, ...rest);
  const send = (at, data) => bodies[at].enqueue(new TextEncoder().encode(`data: ${data}\n\n`));
  const chunk = (content, finish_reason) =>
    JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason }] });
  window.write = (at, said) => send(at, chunk(said));
  window.end = (at, said) => { send(at, chunk(said, "stop")); send(at, "[DONE]") };
  window.stop = (at) => bodies[at].error(new DOMException("", "AbortError")) }"""


def comparing_by_hand(quiet: Tandem, visitors: Visitors, replies_at_once: str) -> Page:
    page = visitors.visit(quiet, role="vote")
    served(page)
    compare(page, replies_at_once)
    page.evaluate(REPLIES_BY_HAND)
    return page


@pytest.mark.parametrize("replies_at_once", ["never", "always"])
def test_what_was_written_of_a_reply_stays_when_another_chat_is_opened(
    quiet: Tandem, visitors: Visitors, replies_at_once: str
) -> None:
    page = comparing_by_hand(quiet, visitors, replies_at_once)
    for at, question in enumerate(("The first", "The second")):
        page.get_by_role("button", name="New chat").click()
        say(page, question)
        expect(page.get_by_role("button", name="Stop")).to_be_visible()
        page.evaluate("at => write(at, 'Half of it')", at)
        expect(page.get_by_text("Half of it")).to_be_visible()
    page.evaluate("stop(0)")
    page.get_by_role("button", name="Delete “The second”").click()
    page.evaluate("stop(1)")
    page.get_by_role("button", name="The first", exact=True).click()
    expect(page.locator(".turn.assistant")).to_contain_text("Half of it")
    expect(page.locator(".turn.assistant footer")).to_contain_text("stopped")
    assert [len(chat["turns"]) for chat in chats(page)] == [2]


@pytest.mark.parametrize("replies_at_once", ["never", "always"])
def test_what_was_written_of_a_reply_that_breaks_off_stays(
    quiet: Tandem, visitors: Visitors, replies_at_once: str
) -> None:
    page = comparing_by_hand(quiet, visitors, replies_at_once)
    say(page, "A question")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.evaluate("write(0, 'Half of it'); bodies[0].close()")
    reply = page.locator(".turn.assistant:not(.writing)")
    for _ in range(2):
        expect(reply).to_contain_text("Half of it")
        expect(reply.locator(".problem")).to_contain_text("It broke off here: the connection was lost")
        page.reload()
    asked: list[Any] = []
    page.route(COMPLETIONS, answers("All of it.", asked))
    compare(page, "never")
    page.get_by_role("button", name="Regenerate").click()
    expect(reply).to_contain_text("All of it.")
    expect(page.locator(".problem")).to_have_count(0)
    assert [message["content"] for message in asked[0]["messages"]] == ["A question"]


def test_an_attack_whose_replies_break_off_asks_for_them_again(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/red-team", role="vote")
    served(page)
    page.evaluate(REPLIES_BY_HAND)
    say(page, "Insult me.")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.evaluate("write(0, 'Half of it'); bodies[0].close()")
    expect(page.locator(".problem")).to_contain_text("No reply: the connection was lost")
    expect(page.get_by_role("button", name="Ask again")).to_be_visible()


def test_the_end_of_what_is_written_stays_in_sight_however_much_comes_at_once(
    quiet: Tandem, visitors: Visitors
) -> None:
    page = chatting(quiet, visitors)
    page.evaluate(REPLIES_BY_HAND)
    say(page, "A question")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    # The second time while the page rests from drawing the first.
    page.evaluate(
        """async () => { const frame = () => new Promise(requestAnimationFrame);
        for (const part of [0, 100]) { write(0, "A line.\\n\\n".repeat(100)); await frame(); await frame() } }"""
    )
    expect(page.locator(".writing p")).to_have_count(200)
    expect(page.locator(".writing p").last).to_be_in_viewport()


def test_who_reads_further_up_stays_there_when_the_reply_ends(quiet: Tandem, visitors: Visitors) -> None:
    page = chatting(quiet, visitors)
    page.evaluate(REPLIES_BY_HAND)
    say(page, "A question")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.evaluate("write(0, 'A line.\\n\\n'.repeat(100))")
    expect(page.locator(".writing p")).to_have_count(100)
    # The page has followed what was written.
    expect(page.locator(".writing p").last).to_be_in_viewport()
    page.evaluate("scrollTo(0, 200)")
    page.evaluate("end(0, 'The end.')")
    replies(page, 1)
    # Whatever would move it has been asked for.
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.evaluate("scrollY") == 200


def test_two_replies_that_are_longer_than_the_screen_are_shown_from_where_they_begin(
    quiet: Tandem, visitors: Visitors
) -> None:
    page = visitors.visit(quiet, role="vote", viewport={"width": 360, "height": 740})
    served(page)
    pair_comes(page, "Much.\n\n" * 50)
    say(page, "A question")
    expect(page.locator(".ballot")).to_be_focused()
    for part in (page.locator(".turn.user"), page.get_by_role("article", name="Reply A").locator("header")):
        expect(part).to_be_in_viewport()


def test_a_long_message_stands_on_the_page(quiet: Tandem, visitors: Visitors) -> None:
    page = chatting(quiet, visitors, viewport={"width": 360, "height": 740})
    say(page, "word " * 10_000)
    replies(page, 1)
    for bubble in (page.locator(".turn.user .prose"), page.locator(".as-it-is").first):
        box = bubble.bounding_box()
        assert box is not None and box["x"] > 0 and box["x"] + box["width"] < 360


def test_a_reply_that_ends_elsewhere_is_kept_and_ends_nothing_else(quiet: Tandem, visitors: Visitors) -> None:
    """Its end may be there already when another chat is opened, and is taken after that."""
    page = chatting(quiet, visitors)
    page.evaluate(REPLIES_BY_HAND)
    is_kept = "said => Object.values(localStorage).some((value) => value.includes(said))"

    def end(at: int, said: str) -> None:
        page.wait_for_function("at => bodies.length > at", arg=at)
        page.evaluate("([at, said]) => end(at, said)", [at, said])
        page.wait_for_function(is_kept, arg=said)

    say(page, "The first")
    page.get_by_role("button", name="New chat").click()
    say(page, "The second")
    end(0, "Of the first.")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    end(1, "Of the second.")
    replies(page, 1)
    expect(page.locator("[aria-live]").filter(has_text="Of the second.")).to_have_count(1)
    say(page, "The third")
    page.wait_for_function("bodies.length > 2")
    page.evaluate("history.pushState(null, '', '/nowhere'); dispatchEvent(new PopStateEvent('popstate'))")
    expect(page.get_by_role("heading", name="Nothing here")).to_be_visible()
    end(2, "Of the third.")
    expect(page.get_by_text("Of the third.")).to_have_count(0)
    assert sorted(len(chat["turns"]) for chat in chats(page)) == [2, 4]


def test_a_full_storage_is_said_and_the_chat_goes_on(quiet: Tandem, visitors: Visitors) -> None:
    page = chatting(quiet, visitors)
    page.evaluate(
        """() => { let piece = "x".repeat(1 << 20);
        for (let at = 0; piece.length; at++)
          try { localStorage.setItem(`other.${at}`, piece) } catch { piece = piece.slice(piece.length / 2 + 1) } }"""
    )
    say(page, "A question")
    replies(page, 1)
    expect(page.get_by_role("alert").filter(has_text="storage is full")).to_be_visible()
    say(page, "Another")
    replies(page, 2)
    page.evaluate("localStorage.clear()")
    say(page, "A third")
    replies(page, 3)
    expect(page.get_by_role("alert").filter(has_text="storage is full")).to_be_hidden()
    assert len(chats(page)[0]["turns"]) == 6


KEPT = [
    "{}",
    "no JSON",
    "null",
    '[null, 1, "x", [], {"id": 1}, {"id": "y", "turns": [null]}, {"id": "z", "turns": [{"role": "user"}]}]',
    '[{"id": "__proto__", "turns": [{"role": "user", "content": "Good", "__proto__": {"polluted": 1}}], "settings": 7,'
    ' "__proto__": {"polluted": 1}, "title": {"a": 1}}]',
    '[{"id": "a", "turns": [{"role": "user", "content": "Good"}, {"role": "assistant", "content": "x",'
    ' "other": {"content": 3}}]}]',
]


@pytest.mark.parametrize("kept", KEPT)
def test_whatever_the_storage_holds_the_chat_is_there(quiet: Tandem, visitors: Visitors, kept: str) -> None:
    page = chatting(quiet, visitors)
    page.evaluate(
        """async (kept) => { const { key_id } = await (await fetch('/v1/session')).json();
        localStorage.setItem(`tandem.chats.${key_id}`, kept);
        localStorage.setItem(`tandem.settings.${key_id}`, kept) }""",
        kept,
    )
    page.reload()
    if "__proto__" in kept:
        page.get_by_role("button", name="Good", exact=True).click()
        page.get_by_role("button", name="Ask again").click()
    else:
        say(page, "A question")
    replies(page, 1)
    page.reload()
    expect(page.locator(".chat-title")).to_have_count(1)
    assert page.evaluate("({}).polluted") is None
