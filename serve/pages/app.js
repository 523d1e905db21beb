// Starts the pages: who is signed in, which page the address means, and what leads from one to another.
import { element } from "./element.js";
import { announce } from "./announce.js";
import { forgiveRefusal, whyRefused } from "./api.js";
import { readSession, reaches, onSignedOut, signOut } from "./session.js";
import { pageFor, PAGES } from "./router.js";
import { showSignIn } from "./sign_in.js";

const main = document.getElementById("page");
let session = { signed_in: false };
let leave = () => {};
let navigation = 0;
let shown = null;

async function start() {
  try {
    session = await readSession();
  } catch (error) {
    main.replaceChildren(notNow(`Who is signed in cannot be found out: ${whyRefused(error)}.`));
    return;
  }
  document.addEventListener("click", followLink);
  // A link within a page changes the address too.
  window.addEventListener("popstate", () => location.pathname !== shown && show());
  onSignedOut(() => {
    session = { signed_in: false };
    show({ ended: true });
  });
  // A page that was out of sight, or comes back by the browser's own way, may by now be that of nobody, or of another.
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && followSession());
  window.addEventListener("pageshow", (event) => event.persisted && followSession());
  await show({ first: true });
}

async function followSession() {
  try {
    const now = await readSession();
    if (now.key_id === session.key_id) return;
    session = now;
  } catch (error) {
    forgiveRefusal(error);
    // Not known now: what the page asks for next will tell.
    return;
  }
  show();
}

async function show({ first = false, ended = false } = {}) {
  const turn = ++navigation;
  shown = location.pathname;
  leave();
  leave = () => {};
  const page = pageFor(location.pathname);
  drawHeader(page);
  document.title = page ? `${page.name} · Tandem` : "Tandem";
  main.className = "";
  if (!session.signed_in) {
    main.replaceChildren();
    showSignIn(main, {
      ended,
      onSignedIn: (opened) => {
        session = opened;
        show();
      },
    });
    return;
  }
  if (!page || !reaches(session.role, page.role)) {
    main.replaceChildren(page ? notForThisRole(page) : nothingHere());
    return;
  }
  main.replaceChildren(element("p", { class: "none loading" }, "Loading…"));
  const module = await page.load().catch(() => null);
  if (turn !== navigation) return;
  if (!module) {
    main.replaceChildren(notNow("This page cannot be had: the server cannot be reached."));
    return;
  }
  main.replaceChildren();
  main.className = `page-${page.name.toLowerCase()}`;
  leave = module.show(main, { session, go, ...page.parameters(location.pathname) }) ?? (() => {});
  if (!first) {
    // Where a message can be written at once, the page has seen to it.
    if (!main.contains(document.activeElement)) main.focus({ preventScroll: true });
    window.scrollTo(0, 0);
    announce(page.name);
  }
}

function go(path) {
  history.pushState(null, "", path);
  show();
}

function followLink(event) {
  const link = event.target.closest?.("a[href]");
  if (!link || link.target || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
  if (link.origin !== location.origin || link.hash || !pageFor(link.pathname)) return;
  event.preventDefault();
  go(link.pathname);
}

function drawHeader(page) {
  document
    .getElementById("nav")
    .replaceChildren(
      ...(session.signed_in ? PAGES.filter((one) => reaches(session.role, one.role)) : []).map((one) =>
        element("a", { href: one.path, "aria-current": one === page ? "page" : null }, one.name),
      ),
    );
  document
    .getElementById("account")
    .replaceChildren(
      ...(session.signed_in
        ? [
            element("span", { class: "role", title: "What your key may do" }, session.role),
            element("button", { class: "quiet", type: "button", onclick: leaveAll }, "Sign out"),
          ]
        : []),
    );
}

async function leaveAll() {
  try {
    await signOut();
  } catch (error) {
    const problem = element("span", { class: "problem", role: "alert" }, `Not signed out: ${whyRefused(error)}.`);
    document.getElementById("account").prepend(problem);
    return;
  }
  session = { signed_in: false };
  show();
}

function notForThisRole(page) {
  return element(
    "div",
    { class: "notice narrow" },
    element("h1", {}, page.name),
    element("p", {}, `This page needs a key with the role “${page.role}”; yours has the role “${session.role}”.`),
  );
}

function notNow(why) {
  return element(
    "div",
    { class: "notice narrow", role: "alert" },
    element("h1", {}, "Not now"),
    element("p", {}, why),
    element("button", { type: "button", onclick: () => location.reload() }, "Try again"),
  );
}

function nothingHere() {
  return element(
    "div",
    { class: "notice narrow" },
    element("h1", {}, "Nothing here"),
    element("p", {}, "There is no page at this address. ", element("a", { href: "/" }, "Back to the chat")),
  );
}

start();
