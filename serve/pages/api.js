// Calls the API with the sign-in's cookie; errors arrive as `Refused`, with what the server said.

let csrfToken = null;
let whenSignedOut = () => {};
let renewToken = async () => false;
/** What came with an entity tag, by its path: asked for again, it comes only if it has changed. */
const tagged = new Map();

export function useToken(token) {
  if (token === csrfToken) return;
  csrfToken = token;
  tagged.clear();
}
export function onUnauthorized(listener) {
  whenSignedOut = listener;
}

/** `renew()` answers whether there is a new token of the same key: the person has signed in anew in another tab. */
export function onTokenWrong(renew) {
  renewToken = renew;
}

/** What the server refused, or that it could not be reached (`status` 0). The message is part of a sentence. */
export class Refused extends Error {
  constructor(status, message, code) {
    super(message.trim().replace(/\.$/, ""));
    this.status = status;
    this.code = code;
  }
}

/** The raw answer of a request that succeeded. Raises Refused. */
export async function request(method, path, body, { signal, headers: given, renewed = false } = {}) {
  const headers = { ...given };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (csrfToken && method !== "GET") headers["x-csrf-token"] = csrfToken;
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal, body: body === undefined ? null : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "the server cannot be reached", "unreachable");
  }
  if (answer.ok || answer.status === 304) return answer;
  const refused = await refusal(answer);
  if (answer.status === 401 && path !== "/v1/session") whenSignedOut();
  if (refused.code === "csrf_token_wrong" && !renewed && (await renewToken())) {
    return request(method, path, body, { signal, headers: given, renewed: true });
  }
  throw refused;
}

/** The answer's JSON. Raises Refused. */
export async function call(method, path, body, options) {
  return (await request(method, path, body, options)).json();
}

/** The JSON of a GET. Raises Refused. */
export async function get(path, options) {
  const before = tagged.get(path);
  const headers = before && { "if-none-match": before.tag };
  const answer = await request("GET", path, undefined, { ...options, headers });
  if (answer.status === 304) return before.value;
  const [value, tag] = [await answer.json(), answer.headers.get("etag")];
  if (tag) tagged.set(path, { tag, value });
  return value;
}

/** Why what was asked was refused, as part of a sentence. Throws whatever else `error` is. */
export function whyRefused(error) {
  if (!(error instanceof Refused)) throw error;
  return error.message;
}

/** For what is left out when it cannot be had: nothing in its place. */
export function forgiveRefusal(error) {
  whyRefused(error);
  return {};
}

/** Every object of a list, page by page. */
export async function listAll(path) {
  const found = [];
  for (let after = ""; ;) {
    const page = await get(`${path}?limit=100${after}`);
    found.push(...page.data);
    if (!page.has_more) return found;
    after = `&after=${encodeURIComponent(page.last_id)}`;
  }
}

async function refusal(answer) {
  let said = {};
  try {
    said = await answer.json();
  } catch {
    /* not ours: a proxy's page, say */
  }
  const error = said.error ?? said;
  const message = error.message ?? error.detail ?? `the server answered ${answer.status}`;
  return new Refused(answer.status, message, error.code);
}
