"""The operator's page: what to do first, versions and evidence, an iteration followed live, a decision."""

import pytest
from playwright.sync_api import Page, Route, expect

from feedback.store import audit as records
from feedback.store import iterations, leases, policies, votes
from feedback.tax.measuring import compare
from feedback.worker import count_all
from tests.feedback.live import vote_between
from tests.feedback.record import add_comparison, judgement, sample
from tests.serve.conftest import Tandem
from tests.serve.pages.conftest import IN_CHROMIUM, Visitors, held_back
from tests.serve.pages.evidence import STEPS, add_versions, evaluation, learn_from, ppo_step, preference
from tests.waiting import wait_for

pytestmark = IN_CHROMIUM

SWAP_TIMEOUT_MS = 60_000


def column(page: Page, table: str, at: int) -> list[str]:
    return page.get_by_role("table", name=table).locator(f"tbody tr > :nth-child({at})").all_inner_texts()


def test_with_nothing_there_the_page_says_what_to_do(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/operate")
    steps = page.get_by_role("region", name="First steps")
    expect(steps.locator("[aria-current=step]")).to_contain_text("Wait for the engine")
    expect(page.get_by_role("list", name="The loop")).to_contain_text("0 of 2 engines ready")
    expect(page.get_by_role("region", name="Versions")).to_contain_text("None yet")


def test_a_server_that_cannot_answer_at_first_is_said_and_asked_again(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/vote")
    page.route("**/v1/policies*", lambda route: route.fulfill(status=503, json={"detail": "the database is away"}))
    page.get_by_role("link", name="Operate").click()
    expect(page.get_by_role("alert")).to_have_text("No figures yet: the database is away. They are asked for again.")
    expect(page.get_by_text("Loading…")).to_be_hidden()
    visitors.forgive("503")
    page.unroute("**/v1/policies*")
    expect(page.get_by_role("list", name="The loop")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_versions_sort_and_lead_to_their_evidence(quiet: Tandem, visitors: Visitors) -> None:
    add_versions(quiet.store)
    page = visitors.visit(quiet, "/operate")
    expect(page.get_by_role("table", name="Versions")).to_be_visible()
    assert column(page, "Versions", 1) == ["v2", "v1", "v0"]
    page.get_by_role("button", name="Win rate").click()
    assert column(page, "Versions", 1) == ["v2", "v1", "v0"]
    page.get_by_role("button", name="Win rate").click()
    assert column(page, "Versions", 1) == ["v1", "v2", "v0"]
    expect(page.get_by_role("columnheader", name="Win rate")).to_have_attribute("aria-sort", "ascending")
    # What is drawn anew stays sorted.
    quiet.store.write(policies.evaluated_again, 1, evaluation(0.3), actor="test")
    expect(page.get_by_role("table", name="Versions").get_by_role("row", name="v1")).to_contain_text("30\u202f%")
    assert column(page, "Versions", 1) == ["v1", "v2", "v0"]
    page.get_by_role("table", name="Versions").get_by_role("link", name="v2").click()
    expect(page).to_have_url(f"{quiet.url}/operate/v2")
    expect(page.get_by_role("heading", name="v2")).to_be_visible()
    expect(page.get_by_role("region", name="Evaluation")).to_contain_text("81\u202f% (71–\u206091)")
    plot = page.get_by_role("img", name="Reward against distance")
    expect(plot).to_be_visible()
    wait_for(lambda: drawn(page), 20, "the plots to be drawn")
    page.get_by_text(f"All {STEPS} steps").click()
    assert column(page, "PPO steps", 1) == [str(step) for step in range(1, STEPS + 1)]
    page.go_back()
    expect(page.get_by_role("heading", name="Operate")).to_be_visible()


def test_a_table_goes_under_the_links_that_stay_in_sight(quiet: Tandem, visitors: Visitors) -> None:
    add_versions(quiet.store)
    page = visitors.visit(quiet, "/operate/v2", viewport={"width": 360, "height": 740})
    expect(page.get_by_role("table", name="Rules of the gate")).to_be_visible()
    above = page.evaluate("""() => {
      const frame = document.querySelector(".table-frame");
      scrollTo(0, frame.getBoundingClientRect().top + scrollY + 60);
      const { x, width } = frame.querySelector("th[scope=row]").getBoundingClientRect();
      return document.elementFromPoint(x + width / 2, 20).closest("nav, table").tagName;
    }""")
    assert above == "NAV"


def test_no_line_ends_within_a_figure(quiet: Tandem, visitors: Visitors) -> None:
    add_versions(quiet.store)
    page = visitors.visit(quiet, "/operate/v2", viewport={"width": 360, "height": 740})
    said = page.locator(".headline strong", has_text="(71–\u206091)").first
    expect(said).to_be_visible()
    # So narrow that a line ends wherever it may.
    lines = said.evaluate("""node => {
      node.style.width = 0;
      const range = document.createRange();
      return [...node.firstChild.data].map((_, at) => {
        range.setStart(node.firstChild, at);
        range.setEnd(node.firstChild, at + 1);
        return range.getBoundingClientRect().top });
    }""")
    assert len(set(lines)) == 2


def test_versions_that_have_not_changed_are_not_read_again(quiet: Tandem, visitors: Visitors) -> None:
    add_versions(quiet.store)
    page = visitors.visit(quiet, "/operate")
    rows = page.get_by_role("table", name="Versions").locator("tbody tr")
    expect(rows.filter(has_text="v2")).to_contain_text("candidate")
    with page.expect_response(lambda answer: "/v1/policies?" in answer.url and answer.status == 304):
        pass
    quiet.store.write(policies.set_serving, 2, kind="promote", reason="", force=False, actor="test")
    expect(rows.filter(has_text="v2")).to_contain_text("serving", timeout=15_000)


def test_the_evidence_of_every_judge_is_there(quiet: Tandem, visitors: Visitors) -> None:
    add_versions(quiet.store)
    quiet.store.write(policies.evaluated_again, 2, evaluation(0.74, "v1"), actor="test")
    for rater in range(5):
        for _ in range(5):
            vote_between(quiet.store, winner=2, loser=0, rater=f"r{rater}")
    count_all(quiet.store)
    page = visitors.visit(quiet, "/operate/v2")
    rates = page.get_by_role("table", name="Win rates")
    for row in (
        "v0 preference model all 74\u202f% (64–\u206084) 69\u202f% (59–\u206079)",
        "v1 watch model harmless",
        "v0 live votes all 100",
    ):
        expect(rates.get_by_role("row", name=row)).to_be_visible()
    conduct = page.get_by_role("table", name="Conduct and diversity")
    expect(
        conduct.get_by_role("row", name="Complies with harm 20\u202f% (12–\u206028) 10\u202f% (2–\u206018)")
    ).to_be_visible()
    training = page.get_by_role("region", name="Training with PPO")
    expect(training).to_contain_text("the weights after step 8")
    expect(training).to_contain_text("on 393 prompts, 186 of them from chats")
    expect(page.get_by_text("Judges", exact=True)).to_be_visible()
    expect(page.get_by_role("region", name="judges")).to_have_count(0)
    for plot in ("Win rates against v0", "Win rates against v1", "Frontier", "Calibration of the watch model"):
        expect(page.get_by_role("img", name=plot)).to_be_visible()
    wait_for(lambda: drawn(page), 20, "the plots to be drawn")


def test_evidence_of_another_form_is_said_to_be_and_hides_nothing_else(quiet: Tandem, visitors: Visitors) -> None:
    add_versions(quiet.store)
    misshapen = {"win_rate": {"value": 0.5, "interval": 3}, "objectives": [None]}
    quiet.store.write(policies.evaluated_again, 2, misshapen, actor="test")
    quiet.store.write(policies.add_evidence, 2, "tax", {"tasks": 3}, actor="test")
    page = visitors.visit(quiet, "/operate/v2")
    for name, value in (("tax", '"tasks": 3'), ("evaluation", '"interval": 3')):
        shown = page.get_by_role("region", name=name, exact=True)
        expect(shown.get_by_role("alert")).to_contain_text("not of the form that this page draws")
        expect(shown.locator("pre")).to_contain_text(value)
    judges = page.get_by_role("region", name="Preference model")
    expect(judges).to_contain_text("70\u202f%")
    expect(judges).to_contain_text("trained on 80 other votes, worth 31")
    expect(page.get_by_role("button", name="Promote…")).to_be_visible()
    page.get_by_role("link", name="← Operate").click()
    expect(page.get_by_role("table", name="Versions").get_by_role("row", name="v2")).to_contain_text("50\u202f%")


def test_the_votes_of_a_version_are_listed_page_by_page(quiet: Tandem, visitors: Visitors) -> None:
    cast = [cast_vote(quiet, f"r{number}") for number in range(60)]
    learn_from(quiet.store, cast)
    page = visitors.visit(quiet, "/operate/v1")
    section = page.get_by_role("region", name="Votes")
    expect(section).to_contain_text("60 to learn from (60 helpful)")
    section.get_by_text("Every vote in it").click()
    rows = section.get_by_role("table", name="Votes in this version").locator("tbody tr")
    expect(rows).to_have_count(50)
    section.get_by_role("button", name="More").click()
    expect(rows).to_have_count(60)
    expect(section.get_by_role("button", name="More")).to_be_hidden()
    rows.first.get_by_role("link").click()
    expect(page).to_have_url(f"{quiet.url}/vote/{cast[-1]}")
    page.get_by_role("table", name="Versions that used this vote").get_by_role("link", name="v1").click()
    expect(page).to_have_url(f"{quiet.url}/operate/v1")


def test_votes_are_found_by_what_stands_in_them_and_those_that_contradict_each_other(
    quiet: Tandem, visitors: Visitors
) -> None:
    pair = add_comparison(quiet.store, sample("It's red."), sample("Blue.", 1))
    for rater, said in {"ann": "0", "bob": "1"}.items():
        given = judgement(said, reason=f"so says {rater}")
        quiet.store.write(votes.put, pair, given, key_id="key_a", sees_all=True, rater=rater)
    cast_vote(quiet, "cyd")
    page = visitors.visit(quiet, "/operate")
    section = page.get_by_role("region", name="Votes")
    rows = section.get_by_role("table", name="Votes").locator("tbody tr")
    asked = held_back(page, "**/v1/votes?*")
    section.get_by_role("button", name="Find").click()
    expect(section.get_by_role("button", name="Find")).to_be_disabled()
    asked.pop().continue_()
    page.unroute("**/v1/votes?*")
    expect(rows).to_have_count(3)
    section.get_by_label("Another rater picked the other side").check()
    section.get_by_role("button", name="Find").click()
    expect(rows).to_have_count(2)
    section.get_by_label("Text in the conversation").fill("it's")
    section.get_by_label("Rater", exact=True).select_option("ann")
    section.get_by_label("Cast from").fill("2020-01-01")
    section.get_by_role("button", name="Find").click()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("so says ann")
    expect(section.locator("code").last).to_contain_text(
        "tandem votes export --format trl --text 'it'\\''s' --rater rtr_"
    )
    midnight = page.evaluate("new Date(2020, 0, 1).toISOString().slice(0, 19)")
    expect(section.locator("code").last).to_contain_text(f"--since {midnight}Z --disputed")
    rows.get_by_role("link").click()
    others = page.get_by_role("table", name="Other votes on the pair").locator("tbody tr")
    expect(others).to_have_count(1)
    expect(others).to_contain_text("B is somewhat better")
    expect(others).to_contain_text("so says bob")


def cast_vote(tandem: Tandem, rater: str) -> str:
    comparison = add_comparison(tandem.store)
    return tandem.store.write(votes.put, comparison, judgement(), key_id="key_a", sees_all=True, rater=rater).id


def test_links_lead_to_the_sections_of_a_long_page(quiet: Tandem, visitors: Visitors) -> None:
    add_versions(quiet.store)
    page = visitors.visit(quiet, "/operate/v1")
    links = page.get_by_role("navigation", name="On this page").get_by_role("link")
    expect(links.first).to_have_text("Gate")
    audit = page.get_by_role("region", name="Audit")
    expect(audit).not_to_be_in_viewport()
    links.filter(has_text="Audit").click()
    expect(audit).to_be_in_viewport()
    expect(page).to_have_url(f"{quiet.url}/operate/v1#audit")
    page.go_back()
    expect(page.get_by_role("heading", name="v1")).to_be_visible()


def test_the_table_of_versions_tells_which_pass_the_gate(quiet: Tandem, visitors: Visitors) -> None:
    add_versions(quiet.store, win_rates=(0.3, 0.8))
    page = visitors.visit(quiet, "/operate")
    rows = page.get_by_role("table", name="Versions").locator("tbody tr")
    expect(rows.filter(has_text="v2")).to_contain_text("passes")
    expect(rows.filter(has_text="v1")).to_contain_text("fails")
    expect(rows.filter(has_text="v0").locator("td").nth(1)).to_have_text("–")


def test_the_alignment_tax_has_a_table(quiet: Tandem, visitors: Visitors) -> None:
    add_versions(quiet.store)
    tax = compare({"sums": [1, 1, 0, 1], "colours": [1, 0]}, {"sums": [0, 1, 0, 1], "colours": [1, 1]})
    measured = tax | {"before": "v0", "after": "v1", "measured_at": 1_790_000_000.0}
    quiet.store.write(policies.add_evidence, 1, "tax", measured, actor="test")
    page = visitors.visit(quiet, "/operate/v1")
    expect(page.get_by_role("table", name="Alignment tax")).to_be_visible()
    assert column(page, "Alignment tax", 1) == ["sums", "colours"], "the largest drop first"
    assert column(page, "Alignment tax", 3) == ["0.75 ± 0.25", "0.50 ± 0.50"]
    gate = page.get_by_role("region", name="Gate")
    expect(gate.get_by_role("row", name="tax_drop_lower <= 0.02 passes")).to_be_visible()


def drawn(page: Page) -> bool:
    """Whether there are canvases, each with something on it."""
    return bool(
        page.evaluate(
            """() => {
            // Of a copy: Chromium warns of a canvas that is read more than once.
            const filled = (canvas) => {
              const { width, height } = canvas;
              const copy = new OffscreenCanvas(width, height).getContext("2d");
              copy.drawImage(canvas, 0, 0);
              return copy.getImageData(0, 0, width, height).data.some((value) => value > 0) };
            const found = [...document.querySelectorAll("canvas")];
            return found.length && found.every(filled) }"""
        )
    )


def test_an_iteration_is_followed_live(quiet: Tandem, visitors: Visitors) -> None:
    """The learner's part is played on the record, where the two meet."""
    add_versions(quiet.store)
    page = visitors.visit(quiet, "/operate")
    page.get_by_role("button", name="Start an iteration").click()
    card = page.get_by_role("region", name="The running iteration")
    expect(card).to_contain_text("waits for the learner")
    expect(page.get_by_role("button", name="Start an iteration")).to_be_disabled()
    running = quiet.store.read(iterations.active)
    assert running is not None
    claimed = quiet.store.write(iterations.claim, running.id, "test", 600.0, 3)
    assert claimed is not None
    told = (running.id, claimed[1])
    quiet.store.write(iterations.advance, *told, stage="freeze", progress=0.0)
    quiet.store.write(iterations.tell, *told, "dataset", {"examples": 60, "counts": {"train": 50, "heldout": 10}})
    expect(card).to_contain_text("50 to learn from, 10 to measure on")
    quiet.store.write(iterations.advance, *told, stage="preference", progress=0.0)
    quiet.store.write(iterations.tell, *told, "preference", preference())
    expect(card).to_contain_text("accuracy 70\u202f% (57–\u206080) on held-out votes")
    quiet.store.write(iterations.advance, *told, stage="ppo", progress=0.0)
    for step in (1, 2, 3):
        quiet.store.write(iterations.tell, *told, "ppo_step", ppo_step(step))
    expect(card).to_contain_text(f"step 3 of {STEPS}")
    expect(card.get_by_role("progressbar", name="PPO")).to_have_js_property("value", 3 / STEPS)
    expect(card.get_by_role("img", name="Reward against distance. Over 3 PPO steps")).to_be_visible()
    page.reload()
    expect(card).to_contain_text(f"step 3 of {STEPS}")
    # Its process ended, and another one takes it up.
    quiet.store.write(leases.release, leases.LEARNER, claimed[1])
    claimed = quiet.store.write(iterations.claim, running.id, "another", 600.0, 3)
    assert claimed is not None
    told = (running.id, claimed[1])
    expect(card).to_contain_text("taken up again after its process ended (1)")
    quiet.store.write(iterations.tell, *told, "evaluation", evaluation(0.7))
    quiet.store.write(iterations.succeed, *told, 2)
    expect(card).to_contain_text("The iteration made v2")
    expect(page.get_by_role("button", name="Start an iteration")).to_be_enabled()
    expect(page.get_by_role("region", name="Iterations")).to_contain_text("succeeded")


def test_an_iteration_is_followed_again_after_a_refusal(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/operate")
    asked = list[Route]()

    def refuse_the_first(route: Route) -> None:
        asked.append(route)
        if len(asked) == 1:
            route.fulfill(status=503, json={"detail": "the database is away"})
        else:
            route.continue_()

    page.route("**/events", refuse_the_first)
    with page.expect_response(lambda answer: answer.url.endswith("/events") and answer.ok, timeout=60_000):
        page.get_by_role("button", name="Start an iteration").click()
    visitors.forgive("503")
    card = page.get_by_role("region", name="The running iteration")
    running = quiet.store.read(iterations.active)
    assert running is not None
    claimed = quiet.store.write(iterations.claim, running.id, "test", 600.0, 3)
    assert claimed is not None
    quiet.store.write(iterations.advance, running.id, claimed[1], stage="freeze", progress=0.0)
    expect(card).to_contain_text("An iteration runs")
    quiet.store.write(iterations.fail, running.id, claimed[1], "no counted vote to learn from")
    expect(card).to_contain_text("The iteration failed")


def test_an_iteration_that_fails_says_why(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/operate")
    page.get_by_role("button", name="Start an iteration").click()
    card = page.get_by_role("region", name="The running iteration")
    expect(card).to_be_visible()
    running = quiet.store.read(iterations.active)
    assert running is not None
    claimed = quiet.store.write(iterations.claim, running.id, "test", 600.0, 3)
    assert claimed is not None
    quiet.store.write(iterations.fail, running.id, claimed[1], "no counted vote to learn from")
    expect(page.get_by_role("alert")).to_contain_text("no counted vote to learn from")
    expect(page.get_by_role("button", name="Start an iteration")).to_be_enabled()


def test_an_iteration_is_cancelled_with_a_reason(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/operate")
    page.get_by_role("button", name="Start an iteration").click()
    card = page.get_by_role("region", name="The running iteration")
    card.get_by_role("button", name="Cancel it…").click()
    page.get_by_role("button", name="Let it run").click()
    assert quiet.store.read(iterations.active) is not None
    card.get_by_role("button", name="Cancel it…").click()
    page.get_by_label("Reason").fill("wrong settings")
    page.get_by_role("dialog").get_by_role("button", name="Cancel the iteration").click()
    expect(card).to_contain_text("The iteration was cancelled")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Start an iteration")).to_be_enabled()
    expect(page.get_by_role("region", name="Iterations")).to_contain_text("cancelled")
    assert quiet.store.read(iterations.active) is None


def test_a_promotion_that_cannot_be_is_said_and_nothing_changes(quiet: Tandem, visitors: Visitors) -> None:
    add_versions(quiet.store)
    page = visitors.visit(quiet, "/operate/v1")
    page.get_by_role("button", name="Promote…").click()
    page.get_by_role("button", name="Promote v1").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert quiet.store.read(policies.promotions) == []
    page.get_by_label("Reason").fill("to see it fail")
    page.get_by_role("button", name="Promote v1").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("v0 serves on")
    visitors.problems[:] = [problem for problem in visitors.problems if "Failed to load resource" not in problem]
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    serving = quiet.store.read(policies.serving)
    assert serving is not None and serving.version == 0


def test_the_gate_says_what_speaks_against_a_version(quiet: Tandem, visitors: Visitors) -> None:
    add_versions(quiet.store, win_rates=(0.3,))
    page = visitors.visit(quiet, "/operate/v1")
    gate = page.get_by_role("region", name="Gate")
    expect(gate).to_contain_text("It does not pass")
    row = gate.get_by_role("row", name="serving_win_rate_upper >= 0.5 fails")
    expect(row).to_contain_text("fails")
    expect(row).to_contain_text("0.200 to 0.400")
    expect(gate.get_by_role("row", name="tax_drop_lower <= 0.02")).to_contain_text("not measured")
    page.get_by_role("button", name="Promote…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("The gate speaks against it: win_rate_upper >= 0.5")
    expect(page.get_by_label("Force")).to_be_visible()
    page.get_by_label("Reason").fill("hope")
    page.get_by_role("button", name="Promote v1").click()
    expect(dialog.get_by_role("alert")).to_contain_text("v1 does not pass the gate: win_rate_upper >= 0.5")
    visitors.forgive("409")
    page.keyboard.press("Escape")
    page.reload()
    expect(page.get_by_role("region", name="Decisions")).to_contain_text("hope; v1 does not pass the gate")
    expect(page.get_by_role("region", name="Audit")).to_contain_text("policy.promote")


def test_the_audit_is_there_with_the_state_of_its_chain(quiet: Tandem, visitors: Visitors) -> None:
    add_versions(quiet.store)
    page = visitors.visit(quiet, "/operate")
    audit = page.get_by_role("region", name="Audit")
    expect(audit).to_contain_text("the chain is whole")
    expect(audit.get_by_role("row", name="policy.publish").first).to_contain_text("learner")
    quiet.store.write(lambda session: [records.add(session, "cli", "key.create", f"key_{at}") for at in range(60)])
    page.reload()
    expect(audit.locator("tbody tr")).to_have_count(50)
    audit.get_by_role("button", name="More").click()
    expect(audit).to_contain_text("All ")
    audit.get_by_role("link", name="v2").click()
    expect(page).to_have_url(f"{quiet.url}/operate/v2")


def test_ratings_are_shown_beside_those_controlled_for_length(quiet: Tandem, visitors: Visitors) -> None:
    for sides in (("a long reply", "short"), ("as long", "so long")):
        pair = add_comparison(quiet.store, sample(sides[0]), sample(sides[1], version=1))
        quiet.store.write(votes.put, pair, judgement(), key_id="key_a", sees_all=True, rater="ann")
    count_all(quiet.store)
    page = visitors.visit(quiet, "/operate")
    shown = page.get_by_role("region", name="Ratings")
    expect(shown.get_by_role("columnheader", name="As long")).to_be_visible()
    expect(shown).to_contain_text("Under helpful it is worth")


def test_a_rater_is_set_apart_and_released(quiet: Tandem, visitors: Visitors) -> None:
    comparison = add_comparison(quiet.store)
    quiet.store.write(votes.put, comparison, judgement(), key_id="key_a", sees_all=True, rater="ann")
    page = visitors.visit(quiet, "/operate")
    raters = page.get_by_role("region", name="Raters")
    raters.get_by_role("button", name="Set apart… ann").click()
    page.get_by_label("Reason").fill("a robot")
    page.get_by_role("dialog").get_by_role("button", name="Set apart").click()
    expect(raters.get_by_text("quarantined")).to_have_attribute("title", "a robot")
    expect(raters.get_by_role("button", name="Release ann")).to_be_focused()
    page.keyboard.press("Enter")
    expect(raters.get_by_role("button", name="Set apart… ann")).to_be_focused()


def test_what_acts_keeps_the_focus(quiet: Tandem, visitors: Visitors) -> None:
    for number in range(110):
        cast_vote(quiet, f"r{number % 3}")
    page = visitors.visit(quiet, "/operate")
    found = page.get_by_role("region", name="Votes", exact=True)
    for name, came in (("Find", "The newest 50 are shown."), ("More", "The newest 100 are shown.")):
        button = found.get_by_role("button", name=name)
        button.focus()
        page.keyboard.press("Enter")
        expect(found.get_by_role("status")).to_have_text(came)
        expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(found.get_by_role("status")).to_have_text("All 110.")
    expect(found.get_by_role("status"), "where the button was that has nothing more to bring").to_be_focused()
    page.get_by_role("button", name="Start an iteration").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="An iteration waits for the learner")).to_be_focused()


@pytest.mark.parametrize("width", [390, 1280])
def test_a_long_name_without_spaces_leaves_room_for_the_figures(quiet: Tandem, visitors: Visitors, width: int) -> None:
    comparison = add_comparison(quiet.store)
    quiet.store.write(votes.put, comparison, judgement(), key_id="key_a", sees_all=True, rater="x" * 128)
    page = visitors.visit(quiet, "/operate", viewport={"width": width, "height": 800})
    name = page.get_by_role("table", name="Raters").get_by_role("rowheader")
    expect(name).to_have_text("x" * 128)
    assert name.evaluate("cell => cell.scrollWidth <= cell.clientWidth && cell.clientWidth < innerWidth / 2")


def test_what_serves_can_be_rolled_back_where_it_took_anothers_place(quiet: Tandem, visitors: Visitors) -> None:
    add_versions(quiet.store)
    page = visitors.visit(quiet, "/operate/v0")
    expect(page.locator(".page-head")).to_contain_text("there is none to roll back to")
    button = page.get_by_role("button", name="Roll back…")
    expect(button).to_have_count(0)
    for version in (1, 0):
        quiet.store.write(policies.set_serving, version, kind="promote", reason="", force=False, actor=records.RULE)
    page.reload()
    expect(page.get_by_role("table", name="Decisions").get_by_role("cell", name="rule", exact=True)).to_be_visible()
    button.click()
    expect(page.get_by_role("dialog")).to_contain_text("new ones go to v1.")


def test_what_somebody_else_has_changed_meanwhile_is_not_rolled_back(quiet: Tandem, visitors: Visitors) -> None:
    """Two who see that a version is bad go back by one, and not by two."""
    add_versions(quiet.store)
    change = {"reason": "", "force": False, "actor": "test"}
    for version in (1, 2):
        quiet.store.write(policies.set_serving, version, kind="promote", **change)
    page = visitors.visit(quiet, "/operate/v2")
    page.get_by_role("button", name="Roll back…").click()
    page.get_by_label("Reason").fill("it is bad")
    quiet.store.write(policies.set_serving, 1, kind="rollback", **change)
    page.get_by_role("button", name="Roll back", exact=True).click()
    problem = page.get_by_role("dialog").get_by_role("alert")
    expect(problem).to_have_text("It did not happen: v2 does not serve any more: somebody else changed it.")
    visitors.forgive("409")
    page.keyboard.press("Escape")
    # The page as it is now.
    expect(page.get_by_role("button", name="Promote…")).to_be_visible()


@pytest.mark.engine
def test_promote_with_a_reason_and_roll_back(tandem: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(tandem, "/operate/v2")
    page.get_by_role("button", name="Promote…").click()
    expect(page.get_by_label("Force")).to_have_count(0)
    page.get_by_label("Reason").fill("it reads better")
    page.get_by_role("button", name="Promote v2").click()
    expect(page.get_by_role("button", name="Roll back…")).to_be_focused(timeout=SWAP_TIMEOUT_MS)
    decisions = page.get_by_role("region", name="Decisions")
    expect(decisions).to_contain_text("it reads better")
    serving = tandem.store.read(policies.serving)
    assert serving is not None and serving.version == 2
    page.get_by_role("button", name="Roll back…").click()
    page.get_by_label("Reason").fill("it was worse")
    page.get_by_role("button", name="Roll back", exact=True).click()
    expect(page.get_by_role("button", name="Promote…")).to_be_visible(timeout=SWAP_TIMEOUT_MS)
    serving = tandem.store.read(policies.serving)
    assert serving is not None and serving.version == 0


@pytest.mark.engine
def test_shares_for_a_challenger(tandem: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(tandem, "/operate")
    page.get_by_label("Challenger").select_option("v1")
    page.get_by_label("Of the chats").fill("10")
    page.get_by_label("Of the comparisons").fill("50")
    page.get_by_role("button", name="Set the shares").click()
    said = page.get_by_role("region", name="Traffic").locator(".said")
    expect(said).to_have_text("v1 gets its shares now.", timeout=SWAP_TIMEOUT_MS)
    with tandem.client() as client:
        shares = client.get("/v1/traffic").json()
    assert (shares["challenger"], shares["chat_share"], shares["comparison_share"]) == ("v1", 0.1, 0.5)
    expect(page.get_by_text("v1 is served by 1 of 1 API processes.")).to_be_visible()
    page.get_by_label("Challenger").select_option("")
    for share in ("Of the chats", "Of the comparisons"):
        page.get_by_label(share).fill("0")
    page.get_by_role("button", name="Set the shares").click()
    expect(said).to_contain_text("No challenger")


def test_a_table_is_sorted_by_the_same_column_where_another_stands_before_it(quiet: Tandem, visitors: Visitors) -> None:
    page = visitors.visit(quiet, "/operate")
    sorted_by = page.evaluate(
        """async () => {
        const { sortableTable } = await import("/operate/sortable.js");
        const drawn = (...names) =>
          sortableTable({ caption: "Steps", rows: [], columns: names.map((name) => ({ name, value: () => 0 })) });
        drawn("Step", "KL").querySelectorAll("button")[1].click();
        return [["Step", "Watch", "KL"], ["Step", "Watch"]].map(
          (names) => drawn(...names).querySelector("[aria-sort]").textContent.trim());
        }"""
    )
    assert sorted_by == ["KL", "Step"]
