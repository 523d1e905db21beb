// Says something to who listens to the page rather than looking at it.

export function announce(text) {
  const said = document.getElementById("said");
  // The same words twice are heard twice only if the region was empty in between.
  said.textContent = "";
  requestAnimationFrame(() => {
    said.textContent = text;
  });
}
