// How many votes this key has cast today from this browser.
const name = (keyId) => `tandem.votes.${keyId}.${new Date().toLocaleDateString("sv")}`;

export function votesToday(keyId) {
  return Number(localStorage.getItem(name(keyId)) ?? 0);
}

/** Add to the count (or take from it); answers the count. */
export function noteVote(keyId, by) {
  const count = Math.max(0, votesToday(keyId) + by);
  localStorage.setItem(name(keyId), String(count));
  return count;
}
