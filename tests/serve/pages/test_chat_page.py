"""The chat page with real engines: replies stream, two are compared, the chosen one goes on."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from feedback.schema import Comparison, Sample, Vote
from tests.serve.conftest import Tandem
from tests.serve.pages.conftest import IN_CHROMIUM, Visitors

pytestmark = IN_CHROMIUM

REPLY_TIMEOUT_MS = 30_000
BEGUN = b'data: {"choices":[{"index":0,"delta":{"content":"The capital of France"}}]}\n\n'


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.keyboard.press("Enter")


def replies(page: Page, count: int) -> None:
    expect(page.locator(".turn.assistant:not(.writing)")).to_have_count(count, timeout=REPLY_TIMEOUT_MS)


def compare(page: Page, how: str) -> None:
    page.get_by_label("How many replies").select_option(how)


@pytest.mark.engine
def test_a_reply_streams_and_the_chat_is_there_after_a_reload(tandem: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(tandem, role="chat")
    expect(page.get_by_label("How many replies")).to_have_count(0)
    say(page, "What is the capital of France?")
    replies(page, 1)
    expect(page.locator(".turn.assistant .version")).to_contain_text("v")
    text = page.locator(".turn.assistant .prose").inner_text()
    assert text.strip()
    say(page, "And of Spain?")
    replies(page, 2)
    page.reload()
    expect(page.locator(".turn")).to_have_count(4)
    assert page.locator(".turn.assistant .prose").first.inner_text() == text
    page.get_by_role("button", name="New chat").click()
    expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    page.get_by_role("button", name="What is the capital of France?", exact=True).click()
    expect(page.locator(".turn")).to_have_count(4)
    # Another page, and back by the browser's own way.
    page.evaluate("history.pushState(null, '', '/nowhere'); dispatchEvent(new PopStateEvent('popstate'))")
    expect(page.locator(".turn")).to_have_count(0)
    page.go_back()
    expect(page.locator(".turn")).to_have_count(4)


@pytest.mark.engine
def test_two_replies_a_vote_by_keys_and_the_chosen_one_goes_on(tandem: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(tandem, role="vote")
    compare(page, "always")
    say(page, "Tell me how to cut a cake.")
    expect(page.locator(".ballot")).to_be_visible(timeout=REPLY_TIMEOUT_MS)
    sides = [side.inner_text() for side in page.locator(".side .prose").all()]
    assert page.locator(".side .version:visible").count() == 0
    page.keyboard.press("ArrowRight")
    page.keyboard.press("4")
    page.keyboard.press("Enter")
    replies(page, 1)
    expect(page.locator(".turn.assistant footer")).to_contain_text("B is much better · chosen v")
    assert page.locator(".turn.assistant > .prose").inner_text() == sides[1]
    comparison = tandem.store.read(
        lambda session: session.scalars(select(Comparison).order_by(Comparison.id.desc()).limit(1)).one()
    )
    (vote,) = tandem.store.read(
        lambda session: session.scalars(select(Vote).where(Vote.comparison_id == comparison.id)).all()
    )
    assert (vote.preferred, vote.strength, vote.objective) == ("1", 4, "helpful")
    compare(page, "never")
    say(page, "Thank you.")
    replies(page, 2)
    sample = tandem.store.read(
        lambda session: session.scalars(select(Sample).order_by(Sample.id.desc()).limit(1)).one()
    )
    assert [message["content"] for message in sample.messages[:2]] == ["Tell me how to cut a cake.", sides[1]]
    assert sample.parent == comparison.sample_1


@pytest.mark.engine
def test_writing_on_without_a_vote_goes_on_with_the_first(tandem: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(tandem, role="vote")
    compare(page, "always")
    say(page, "Name three fruits.")
    expect(page.locator(".ballot")).to_be_visible(timeout=REPLY_TIMEOUT_MS)
    first = page.locator(".side .prose").first.inner_text()
    compare(page, "never")
    say(page, "And three animals, t b s.")
    replies(page, 2)
    assert page.locator(".turn.assistant > .prose").first.inner_text() == first


@pytest.mark.engine
def test_two_replies_that_came_out_the_same_ask_for_no_choice(tandem: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(tandem, role="vote")
    compare(page, "always")
    page.get_by_role("button", name="Settings").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Temperature").fill("0")
    dialog.get_by_role("button", name="Save").click()
    say(page, "What is the capital of France?")
    expect(page.get_by_role("heading", name="Both replies came out the same")).to_be_visible(timeout=REPLY_TIMEOUT_MS)
    expect(page.get_by_text("Which reply helps more?")).to_have_count(0)
    page.get_by_role("button", name="Go on with A").click()
    replies(page, 1)


@pytest.mark.engine
def test_regenerate_and_stop(tandem: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(tandem, role="chat")
    say(page, "What is 2 + 3?")
    replies(page, 1)
    page.get_by_role("button", name="Regenerate").click()
    replies(page, 1)
    expect(page.locator(".turn.user")).to_have_count(1)
    # A reply is over too soon to be stopped by hand: it is held back on its way.
    page.route("**/v1/chat/completions", lambda route: None)
    say(page, "What is 3 + 4?")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Ask again")).to_be_visible()
    page.unroute("**/v1/chat/completions")
    page.get_by_role("button", name="Ask again").click()
    replies(page, 2)


def test_without_an_engine_the_chat_says_so(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet)
    expect(page.locator(".waiting")).to_contain_text("No engine serves yet")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()


@pytest.mark.engine
def test_an_error_is_said_and_can_be_tried_again(tandem: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(tandem, role="chat")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(status=503, json={"error": {"message": "all engines are down"}}),
    )
    say(page, "What is 2 + 2?")
    expect(page.locator(".problem")).to_contain_text("No reply: all engines are down.")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    visitors.forgive("503")
    page.unroute("**/v1/chat/completions")
    page.get_by_role("button", name="Ask again").click()
    replies(page, 1)


@pytest.fixture
def breaks_off() -> Iterator[tuple[str, threading.Event]]:
    """The address of a server whose stream ends in the middle of a reply, with its connection, and when it is to."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                connection.sendall(head + b"%x\r\n%b\r\n" % (len(BEGUN), BEGUN))
                over.wait()

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/", over
        over.set()
        # A test that failed before it came here is not waited for.
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.engine
def test_a_connection_that_goes_in_mid_reply_is_said(
    tandem: Tandem, visitors: Visitors, breaks_off: tuple[str, threading.Event]
) -> None:
    address, over = breaks_off
    page = visitors.visit(tandem, role="chat")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    page.route("**/v1/chat/completions", lambda route: route.continue_(url=address))
    say(page, "What is the capital of France?")
    expect(page.locator(".writing")).to_contain_text("The capital of France")
    over.set()
    expect(page.locator(".turn.assistant:not(.writing)")).to_contain_text("The capital of France")
    expect(page.locator(".problem")).to_contain_text("It broke off here: the connection was lost in the middle of it.")
    visitors.forgive("ERR_INCOMPLETE_CHUNKED_ENCODING")
    page.unroute("**/v1/chat/completions")
    page.get_by_role("button", name="Regenerate").click()
    replies(page, 1)
    expect(page.locator(".problem")).to_have_count(0)


@pytest.mark.engine
def test_a_message_that_is_refused_can_be_changed(tandem: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(tandem, role="chat")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    say(page, "What is 2 + 2? " * 1000)
    expect(page.locator(".problem")).to_contain_text("maximum context length")
    assert ".." not in page.locator(".problem").inner_text()
    visitors.forgive("400")
    page.get_by_role("button", name="Change it").click()
    changed = page.get_by_role("form", name="Change your message").get_by_role("textbox")
    expect(changed).to_have_value("What is 2 + 2? " * 999 + "What is 2 + 2?")
    changed.fill("What is 2 + 2?")
    page.keyboard.press("Enter")
    replies(page, 1)
    expect(page.locator(".turn.user .prose")).to_have_text("What is 2 + 2?")


@pytest.mark.engine
def test_who_signs_in_anew_in_another_tab_goes_on_in_this_one(tandem: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(tandem, role="chat")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    assert page.request.post("/v1/session", data={"key": tandem.secrets["chat"]}).ok
    say(page, "What is 2 + 2?")
    replies(page, 1)
    visitors.forgive("403")
    assert page.request.post("/v1/session", data={"key": tandem.secrets["vote"]}).ok
    say(page, "And 3 + 3?")
    # Somebody else: a page of theirs, without what was written here.
    expect(page.get_by_role("link", name="Vote", exact=True)).to_be_visible()
    expect(page.locator(".turn")).to_have_count(0)
