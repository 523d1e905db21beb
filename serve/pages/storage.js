// The browser's own storage. It may be full, and may hold anything: who reads from it checks what comes.

/** The text kept under a name, or null. */
export function kept(name) {
  return localStorage.getItem(name);
}

/** What was kept as JSON under a name; null for nothing, and for what is no JSON. */
export function keptValue(name) {
  try {
    return JSON.parse(localStorage.getItem(name));
  } catch {
    return null;
  }
}

/** Keep a text under a name. False when the storage is full. */
export function keep(name, text) {
  try {
    localStorage.setItem(name, text);
    return true;
  } catch (error) {
    if (error.name !== "QuotaExceededError") throw error;
    return false;
  }
}

/** The names that begin so, of what is kept. */
export function keptNames(prefix) {
  return Object.keys(localStorage).filter((name) => name.startsWith(prefix));
}

export function forget(name) {
  localStorage.removeItem(name);
}
