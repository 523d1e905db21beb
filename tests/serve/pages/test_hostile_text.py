"""What people and policies write stays text, wherever it is shown."""

import pytest
from playwright.sync_api import Page, expect

from feedback.store import keys
from tests.feedback.record import add_comparison, sample
from tests.serve.conftest import Tandem
from tests.serve.pages.conftest import IN_CHROMIUM, Visitors

pytestmark = IN_CHROMIUM

HOSTILE = [
    "<script>window.harmed = 1</script>",
    "<img src=x onerror='window.harmed = 1'>",
    "<svg onload=window.harmed=1><a xlink:href='javascript:window.harmed=1'>x</a></svg>",
    "[a link](javascript:window.harmed=1) <javascript:window.harmed=1>",
    "[a link](data:text/html,<script>parent.harmed=1</script>)",
    "![an image](https://example.com/pixel.png) ![x](x\"onerror=\"window.harmed=1)",
    "<iframe srcdoc='<script>parent.harmed=1</script>'></iframe><style>body{display:none}</style>",
    "| a |\n|:-:|\n| <b onclick=window.harmed=1>x</b> |",
    "`</code><script>window.harmed=1</script>`\n\n```\"><script>\nwindow.harmed=1\n```",
    "<math><mtext><table><mglyph><style><!--</style><img title='--><img src=x onerror=window.harmed=1>'>",
    "<form action=//example.com><input name=attributes><button>x</button></form>",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_pair_is_inert(quiet: Tandem, visitors: Visitors, text: str) -> None:
    messages = [
        {"role": "user", "content": text},
        {"role": "assistant", "content": text},
        {"role": "user", "content": text},
    ]
    # Two that are the same are shown to nobody.
    add_comparison(quiet.store, sample(text, messages=messages), sample(f"{text}\n\nB", 1, messages=messages))
    page = visitors.visit(quiet, "/vote")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    expect(page.locator(".side")).to_have_count(2)
    page.wait_for_timeout(200)
    inert(page)
    assert all(url.startswith(quiet.url) for url in requests)


def test_a_link_opens_apart_and_tells_nothing(quiet: Tandem, visitors: Visitors) -> None:
    text = "See [this](https://example.com/a), https://example.com/b and **that**."
    add_comparison(quiet.store, sample(text), sample("no", 1))
    page = visitors.visit(quiet, "/vote")
    links = page.locator(".side a")
    expect(links).to_have_count(2)
    for link in links.all():
        assert (link.get_attribute("target"), link.get_attribute("rel")) == ("_blank", "noopener noreferrer nofollow")
    expect(page.locator(".side strong")).to_have_text("that")


def test_hostile_words_in_the_history_and_in_reasons(quiet: Tandem, visitors: Visitors) -> None:
    with quiet.client() as client:
        client.post("/v1/iterations", json={"reason": HOSTILE[1]}).raise_for_status()
    page = visitors.visit(quiet, "/operate")
    expect(page.get_by_role("region", name="Iterations")).to_contain_text("onerror")
    inert(page)
    page.goto("/")
    page.evaluate(
        """text => { const key = fetch('/v1/session').then(answer => answer.json()); return key.then(({ key_id }) =>
        localStorage.setItem(`tandem.chats.${key_id}`, JSON.stringify([{ id: 'x', updated: 1, turns: [
          { role: 'user', content: text },
          { role: 'assistant', content: text, version: text, other: { content: text } }] }]))) }""",
        HOSTILE[1],
    )
    page.reload()
    page.locator(".chat-title").click()
    expect(page.locator(".turn.assistant")).to_be_visible()
    inert(page)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("\u202enna", "\\u{202e}nna"), ("an\u200bna", "an\\u{200b}na"), ("ann\U000e0061", "ann\\u{e0061}")],
)
def test_nobody_goes_by_what_looks_like_another_name(quiet: Tandem, visitors: Visitors, name: str, shown: str) -> None:
    comparison = add_comparison(quiet.store)
    secret = quiet.store.write(keys.create, "operate", name)[1]
    vote = {"objective": "helpful", "preferred": 0, "strength": 1, "rater": name}
    with quiet.client(headers={"authorization": f"Bearer {secret}"}) as client:
        client.put(f"/v1/comparisons/{comparison}/vote", json=vote).raise_for_status()
    page = visitors.visit(quiet, "/operate")
    for region in ("Raters", "Use by key"):
        rows = page.get_by_role("region", name=region).locator("tbody tr")
        expect(rows.filter(has_text=shown)).to_have_count(1)
    expect(page.locator("#vote-rater option", has_text=shown)).to_have_count(1)


def inert(page: Page) -> None:
    assert page.evaluate("window.harmed") is None
    shown = page.evaluate(
        """() => [...document.querySelectorAll('main *')].filter((one) =>
        ['SCRIPT', 'IFRAME', 'STYLE', 'IMG', 'OBJECT', 'EMBED', 'BASE', 'MATH'].includes(one.tagName)
        || one.hasAttribute('style') && one.tagName !== 'TEXTAREA' && one.tagName !== 'CANVAS'
        || [...one.attributes].some(({ name }) => name.startsWith('on'))
        || /^(javascript|data):/i.test(one.getAttribute('href') ?? '')).map((one) => one.outerHTML)"""
    )
    assert shown == []
