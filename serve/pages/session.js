// Who is signed in. The cookie itself is out of reach of scripts; what is known of it comes from /v1/session.
import { call, get, onTokenWrong, onUnauthorized, useToken } from "./api.js";

const ROLES = ["chat", "vote", "operate"];
let keyId = null;

export function reaches(role, needed) {
  return ROLES.indexOf(role) >= ROLES.indexOf(needed);
}

export async function readSession() {
  return keep(await get("/v1/session"));
}

/** Raises Refused for an unknown key. */
export async function signIn(key) {
  return keep(await call("POST", "/v1/session", { key }));
}

export async function signOut() {
  keep(await call("DELETE", "/v1/session"));
}

/** Hear when the server no longer takes the cookie: it ended, or its key was revoked. */
export function onSignedOut(listener) {
  onUnauthorized(() => {
    useToken(null);
    listener();
  });
}

function keep(session) {
  useToken(session.csrf_token);
  keyId = session.key_id;
  return session;
}

onTokenWrong(async () => {
  const before = keyId;
  const { key_id: now } = await readSession();
  // Somebody else is signed in by now: what is shown here is not theirs.
  if (now !== before) location.reload();
  return now === before;
});
