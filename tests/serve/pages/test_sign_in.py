"""Signing in and out in a browser, and what each role is shown."""

from playwright.sync_api import expect

from feedback.store import keys
from tests.serve.conftest import Tandem
from tests.serve.pages.conftest import IN_CHROMIUM, Visitors, held_back

pytestmark = IN_CHROMIUM


def test_sign_in_with_a_key_and_out(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/operate", role=None)
    page.get_by_label("Your key").fill("tdm_00000000_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("unknown or revoked")
    visitors.forgive("401")
    page.get_by_label("Your key").fill(quiet.secrets["operate"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Operate")).to_be_visible()
    assert page.evaluate("document.cookie") == ""
    assert page.evaluate("Object.keys(localStorage).length") == 0
    page.reload()
    expect(page.get_by_role("heading", name="Operate")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Your key")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Your key")).to_be_visible()


def test_who_has_signed_in_or_comes_from_another_page_writes_at_once(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/", role=None)
    page.get_by_label("Your key").fill(quiet.secrets["operate"])
    page.keyboard.press("Enter")
    expect(page.get_by_label("Message")).to_be_focused()
    links = page.get_by_role("navigation").get_by_role("link")
    links.filter(has_text="Operate").click()
    expect(page.get_by_role("heading", name="Operate")).to_be_visible()
    expect(page.get_by_role("main")).to_be_focused()
    links.filter(has_text="Chat").click()
    expect(page.get_by_label("Message")).to_be_focused()


def test_a_role_sees_its_pages_only(quiet: Tandem, visitors: Visitors) -> None:
    for role, seen in (("chat", ["Chat"]), ("vote", ["Chat", "Vote"]), ("operate", ["Chat", "Vote", "Operate"])):
        page = visitors.visit(quiet, "/", role=role)
        expect(page.get_by_role("navigation").get_by_role("link")).to_have_text(seen)
    page = visitors.visit(quiet, "/operate", role="vote")
    expect(page.get_by_role("main")).to_contain_text("needs a key with the role “operate”")


def test_a_revoked_key_leads_back_to_the_sign_in(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote", role="vote")
    expect(page.get_by_text("No open pairs")).to_be_visible()
    key = quiet.store.read(keys.find, quiet.secrets["vote"])
    assert key is not None
    quiet.store.write(keys.revoke, key.key.id)
    page.wait_for_timeout(1500)
    page.get_by_role("button", name="Look again").click()
    expect(page.get_by_label("Your key")).to_be_visible()
    expect(page.get_by_text("You are signed out")).to_be_visible()
    visitors.forgive("401")


def test_a_sign_out_that_failed_is_said(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote", role="vote")
    expect(page.get_by_text("No open pairs")).to_be_visible()
    page.route("**/v1/session", lambda route: route.fulfill(status=503, json={"detail": "the database is away"}))
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("alert")).to_contain_text("Not signed out: the database is away.")
    visitors.forgive("503")


def test_a_page_that_comes_back_is_nobodys_after_a_sign_out(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote", role="vote")
    expect(page.get_by_text("No open pairs")).to_be_visible()
    other = page.context.new_page()
    other.goto("/vote")
    other.get_by_role("button", name="Sign out").click()
    expect(other.get_by_label("Your key")).to_be_visible()
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    expect(page.get_by_label("Your key")).to_be_visible()
    assert page.request.post("/v1/session", data={"key": quiet.secrets["chat"]}).ok
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("main")).to_contain_text("yours has the role “chat”")


def test_the_address_of_nothing(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/operate/v99")
    expect(page.get_by_role("alert")).to_contain_text("no policy version 'v99'")
    visitors.forgive("404")
    page.goto("/operate/nothing")
    expect(page.get_by_role("heading", name="Nothing here")).to_be_visible()
    page.get_by_role("link", name="Back to the chat").click()
    expect(page.get_by_label("Message")).to_be_visible()


def test_a_server_that_cannot_say_who_is_signed_in_is_asked_again(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote", role="vote")
    expect(page.get_by_text("No open pairs")).to_be_visible()
    page.route("**/v1/session", lambda route: route.fulfill(status=503, json={"detail": "the database is away"}))
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("the database is away")
    visitors.forgive("503")
    page.unroute("**/v1/session")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("No open pairs")).to_be_visible()


def test_a_page_that_cannot_be_had_is_said_and_asked_for_again(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote")
    expect(page.get_by_text("No open pairs")).to_be_visible()
    held = held_back(page, "**/operate/page.js")
    page.get_by_role("link", name="Operate").click()
    expect(page.locator("main")).to_have_text("Loading…")
    held[0].abort("internetdisconnected")
    expect(page.get_by_role("alert")).to_contain_text("This page cannot be had")
    visitors.forgive("ERR_INTERNET_DISCONNECTED")
    page.unroute("**/operate/page.js")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name="Operate")).to_be_visible()
