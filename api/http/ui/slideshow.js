// One picture after the other, by itself.

const PICTURE_MS = 5000;
const LONGEST_VIDEO_MS = 60_000;

// next() resolves to whether there is another one; changed(is it running).
export function makeSlideshow(next, changed) {
  let timer = null;
  let running = false;

  function stop() {
    clearTimeout(timer);
    if (running) {
      running = false;
      changed(false);
    }
  }

  function start() {
    running = true;
    changed(true);
    wait(PICTURE_MS);
  }

  // What is shown now takes its time: a video until it ends.
  function shown(video) {
    if (!running) return;
    wait(video ? LONGEST_VIDEO_MS : PICTURE_MS);
    video?.addEventListener("ended", () => running && wait(0), { once: true });
  }

  // Without the player, which the browser refused.
  const shorten = () => running && wait(PICTURE_MS);

  function wait(ms) {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      if (!(await next())) stop();
    }, ms);
  }

  return { start, stop, shown, shorten, toggle: () => (running ? stop() : start()), isRunning: () => running };
}
