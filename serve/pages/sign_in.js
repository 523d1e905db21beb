// The page of who is not signed in yet: show a key, get a cookie.
import { element } from "./element.js";
import { signIn } from "./session.js";

/** `ended`: the person was signed in, and what they asked for last was refused. `onSignedIn(session)`. */
export function showSignIn(main, { ended, onSignedIn }) {
  main.className = "page-sign-in";
  const problem = element("p", { class: "problem", id: "sign-in-problem", role: "alert" });
  const key = element("input", {
    id: "key",
    name: "key",
    type: "password",
    autocomplete: "current-password",
    required: true,
    spellcheck: "false",
    autocapitalize: "none",
    placeholder: "tdm_…",
    "aria-describedby": "key-help sign-in-problem",
  });
  const submit = element("button", { class: "primary", type: "submit" }, "Sign in");
  const form = element(
    "form",
    { class: "sign-in" },
    element("h1", {}, "Sign in"),
    element("p", { class: "lead" }, "Tandem is an assistant that learns from its users’ votes while it serves them."),
    ended && element("p", { role: "status" }, "You are signed out: the sign-in has ended, or its key was revoked."),
    // For password keepers, which want a name beside a secret.
    element("input", { name: "username", autocomplete: "username", value: "tandem", hidden: true, readonly: true }),
    element("label", { for: "key" }, "Your key"),
    key,
    problem,
    submit,
    element(
      "p",
      { class: "help", id: "key-help" },
      "The first start leaves an operator’s key in ",
      element("code", {}, "operator.key"),
      " in the home folder. ",
      element("code", {}, "tandem keys create"),
      " makes more, for people who chat or vote.",
    ),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    problem.textContent = "";
    try {
      onSignedIn(await signIn(key.value));
    } catch (error) {
      problem.textContent =
        error.status === 401 ? "This key is unknown or revoked." : `Not signed in: ${error.message}.`;
      key.select();
    } finally {
      submit.disabled = false;
    }
  });
  main.replaceChildren(form);
  key.focus();
}
