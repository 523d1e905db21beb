// The end of a conversation stays in sight while it grows, for who has not scrolled up to read.
const NEAR_PX = 120;

export function atTheEnd() {
  return document.documentElement.scrollHeight - window.scrollY - window.innerHeight < NEAR_PX;
}

/** Draw what grows, and follow it. */
export function following(draw) {
  const follow = atTheEnd();
  draw();
  if (follow) window.scrollTo(0, document.documentElement.scrollHeight);
}

export function scrollToTheEnd(wanted = true) {
  if (wanted) requestAnimationFrame(() => window.scrollTo(0, document.documentElement.scrollHeight));
}
