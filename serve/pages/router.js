// Which page an address means, who may see it, and where its code is.

/** A chat in which a person attacks the policy. */
export const RED_TEAM = "/red-team";

export const PAGES = [
  {
    name: "Chat",
    path: "/",
    role: "chat",
    matches: (path) => path === "/" || path === RED_TEAM,
    parameters: (path) => ({ attack: path === RED_TEAM }),
    load: () => import("./chat/page.js"),
  },
  {
    name: "Vote",
    path: "/vote",
    role: "vote",
    matches: (path) => path === "/vote" || /^\/vote\/vote_\w+$/.test(path),
    parameters: (path) => ({ vote: path.split("/")[2] ?? null }),
    load: () => import("./vote/page.js"),
  },
  {
    name: "Operate",
    path: "/operate",
    role: "operate",
    matches: (path) => path === "/operate" || /^\/operate\/v\d+$/.test(path),
    parameters: (path) => ({ version: path.split("/")[2] ?? null }),
    load: () => import("./operate/page.js"),
  },
];

export function pageFor(path) {
  return PAGES.find((page) => page.matches(path)) ?? null;
}
