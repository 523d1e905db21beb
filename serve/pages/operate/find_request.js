// Finding what was recorded for a request, by the id that its answer carried.
import { get, whyRefused } from "../api.js";
import { element, field, none, problem } from "../element.js";
import { once } from "../focus.js";
import { said } from "../vote/conversation.js";
import { when } from "./figures.js";
import { facts, help, section, shortId, shownName } from "./section.js";

/** A section with a form. */
export function findRequestSection() {
  const id = element("input", {
    id: "request-id",
    maxlength: 128,
    pattern: "[A-Za-z0-9_.:\\-]+",
    required: true,
    autocomplete: "off",
    placeholder: "req_…",
  });
  const button = element("button", { type: "submit" }, "Look up");
  const result = element("div", { class: "stack", role: "status" });
  return section(
    "Requests",
    help("What was recorded for a request, by the ", element("code", {}, "x-request-id"), " that stood in its answer."),
    element(
      "form",
      {
        class: "find-request",
        onsubmit: (event) => {
          event.preventDefault();
          once(button, () => find(id.value.trim(), result));
        },
      },
      field(id, "Request id"),
      button,
    ),
    result,
  );
}

async function find(id, result) {
  try {
    const { data, has_more: more } = await get(`/v1/samples?request_id=${encodeURIComponent(id)}`);
    result.replaceChildren(...data.map(recorded));
    if (data.length === 0) result.append(none("Nothing is recorded for this request."));
    // A client may give one id to many requests.
    if (more) result.append(help("There are more: ", element("code", {}, `tandem samples find ${id}`), " shows all."));
  } catch (error) {
    result.replaceChildren(problem(`It cannot be looked up: ${whyRefused(error)}.`));
  }
}

/** One reply, after the conversation that it answers, unless that stands above already. */
function recorded(reply, at, all) {
  const { usage } = reply;
  const asked = (one) => JSON.stringify(one.messages);
  const told = at > 0 && asked(all[at - 1]) === asked(reply);
  return element(
    "article",
    { class: "sample" },
    facts([
      ["Asked", when(reply.created)],
      ["Key", shortId(reply.key_id)],
      reply.user && ["For", shownName(reply.user)],
      ["Version", version(reply)],
      ["Ended", [reply.status, reply.finish_reason].filter(Boolean).join(", ")],
      usage && ["Tokens", `${usage.prompt_tokens} read, ${usage.completion_tokens} written`],
      ["Sample", shortId(reply.id)],
    ]),
    [...(told ? [] : reply.messages), reply.message].map(said),
  );
}

function version({ version, mixed, comparison_id: pair }) {
  if (pair) return element("span", { title: `A side of ${pair}: raters are not to know` }, "hidden, of a pair");
  return version ?? (mixed ? "several" : "none");
}
