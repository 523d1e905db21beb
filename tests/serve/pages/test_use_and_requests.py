"""On the operator's page: what each key used, and what was recorded for a request."""

from playwright.sync_api import expect
from sqlalchemy import update
from sqlalchemy.orm import Session

from feedback.schema import Key
from feedback.store import keys, samples
from tests.feedback.record import add_comparison, sample
from tests.serve.conftest import Tandem
from tests.serve.pages.conftest import IN_CHROMIUM, Visitors

pytestmark = IN_CHROMIUM

DAY_S = 86_400


def test_what_each_key_used_over_a_chosen_time(quiet: Tandem, visitors: Visitors) -> None:
    store = quiet.store
    made = [store.write(keys.create, "chat", name)[0] for name in ("shop", "newsletter")]
    at = made[0].created_at
    store.write(move_back, 20 * DAY_S)
    used = [(made[0], at, 12, 300), (made[0], at - 3 * DAY_S, 8, 1000), (made[1], at - 12 * DAY_S, 5, 7)]
    rows = [
        sample(key_id=key.id, created_at=moment, prompt_tokens=prompt, reply_tokens=reply)
        for key, moment, prompt, reply in used
    ]
    store.write(samples.add, rows)
    page = visitors.visit(quiet, "/operate")
    table = page.get_by_role("table", name="Use by key")
    body = table.locator("tbody tr")
    expect(body).to_have_count(1)
    expect(body.locator("th, td")).to_have_text(["shop", "2", "20", "1,300", "0", "0"])
    span = page.get_by_label("Over", exact=True)
    span.select_option("today")
    expect(body.locator("th, td")).to_have_text(["shop", "1", "12", "300", "0", "0"])
    span.select_option("the last 30 days")
    expect(body.locator("th")).to_have_text(["shop", "newsletter"])


def move_back(session: Session, seconds: float) -> None:
    """All keys are older by that."""
    session.execute(update(Key).values(created_at=Key.created_at - seconds))


def test_a_request_is_looked_up_by_its_id(quiet: Tandem, visitors: Visitors) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    quiet.store.write(samples.add, [sample(hostile, version=2, request_id="req_one", user="ann")])
    pair = add_comparison(
        quiet.store,
        sample("Snow is white.", version=1, request_id="req_pair"),
        sample("Look it up.", version=2, request_id="req_pair"),
    )
    page = visitors.visit(quiet, "/operate")
    requests = page.get_by_role("region", name="Requests")
    field = requests.get_by_label("Request id")
    field.fill("req_one")
    field.press("Enter")
    found = requests.get_by_role("article")
    expect(found).to_contain_text(hostile)
    expect(found).to_contain_text("v2")
    expect(found).to_contain_text("ann")
    field.fill("req_pair")
    requests.get_by_role("button", name="Look up").click()
    expect(found).to_have_count(2)
    expect(found.first).to_contain_text("Snow is white.")
    expect(found.last).to_contain_text("Look it up.")
    # The conversation stands there once.
    expect(requests.get_by_text("What is 2 plus 3?")).to_have_count(1)
    for side in (found.first, found.last):
        expect(side).to_contain_text("hidden, of a pair")
        expect(side.get_by_title(pair)).to_be_visible()
        expect(side).not_to_contain_text("v1")
    quiet.store.write(samples.add, [sample(request_id="mine") for _ in range(21)])
    field.fill("mine")
    field.press("Enter")
    expect(found).to_have_count(20)
    expect(requests).to_contain_text("There are more: tandem samples find mine shows all.")
    field.fill("req_none")
    field.press("Enter")
    expect(requests).to_contain_text("Nothing is recorded for this request.")


def test_what_a_request_said_stands_there_as_raters_see_it(quiet: Tandem, visitors: Visitors) -> None:
    called = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    image = {"type": "image_url", "image_url": {"url": "https://example.com/sky.png"}}
    asked = [
        {"role": "user", "content": [{"type": "text", "text": "How is it there? "}, image]},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "content": ""},
    ]
    quiet.store.write(samples.add, [sample("**Cold.**", messages=asked, message=None, request_id="req_tool")])
    page = visitors.visit(quiet, "/operate")
    page.get_by_label("Request id").fill("req_tool")
    page.keyboard.press("Enter")
    said = page.locator(".sample .said")
    expect(said.locator("header")).to_have_text(["Person", "Assistant", "Tool", "Assistant"])
    expect(said.locator(".prose")).to_have_text(
        ["How is it there? [image_url]", 'weather({"city": "Oslo"})', "(nothing)", "Cold."]
    )
