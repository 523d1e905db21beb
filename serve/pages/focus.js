// The focus stays where it was, for who goes by keys: what is disabled, or drawn anew, would lose it.

/** Have a button act, once at a time. */
export async function once(button, act) {
  const focused = document.activeElement === button;
  button.disabled = true;
  try {
    return await act();
  } finally {
    button.disabled = false;
    if (focused && document.activeElement === document.body) button.focus();
  }
}

/** Draw what stands in a place anew; what had the focus in it gives it to what has the same id. */
export function redraw(place, ...children) {
  const focused = place.contains(document.activeElement) && document.activeElement.id;
  place.replaceChildren(...children);
  if (focused) document.getElementById(focused)?.focus();
}
