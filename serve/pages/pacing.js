// How often something that grows is drawn anew: once a frame, and less often where that takes long.

/** Of the time, what drawing may take: a page that did nothing else could not be scrolled or stopped. */
const DRAWING_SHARE = 0.25;

/** A function that has `draw` called soon, however often it is called itself. */
export function paced(draw) {
  let wanted = false;
  let resting = false;

  function step() {
    wanted = false;
    resting = true;
    const began = performance.now();
    draw();
    // The browser's own part, laying it out, is over when the next frame begins.
    requestAnimationFrame(() => {
      const took = performance.now() - began;
      setTimeout(
        () => {
          resting = false;
          if (wanted) step();
        },
        took * (1 / DRAWING_SHARE - 1),
      );
    });
  }

  return () => {
    if (wanted) return;
    wanted = true;
    if (!resting) requestAnimationFrame(step);
  };
}
