// A sound in the viewer: the waveform of the window that was found, on which one moves, and a player that
// begins there.

import { element, fileName } from "./dom.js";
import { startOf } from "./file-times.js";
import { clock, t } from "./i18n.js";
import { showThumbnail } from "./thumbnails.js";

const KEY_STEP_S = 1;

// Makes a player for the waveform that a frame shows. `links` is a promise of the addresses of the file;
// `cannot()` is called once it is known that the browser cannot play it. Returns {player, show(window): shows
// another window of the sound}.
export function makeSound(frame, hit, links, { signal, cannot }) {
  const player = element("audio", { class: "sound-player", controls: true, preload: "metadata", "aria-label": fileName(hit.path) });
  const wave = element("div", {
    class: "wave",
    role: "slider",
    tabIndex: 0,
    "aria-label": t("waveform"),
    onpointerdown: (event) => {
      event.preventDefault();
      wave.focus();
      to(secondsAt(event));
    },
    onkeydown: (event) => {
      const [from, until] = span();
      const step = { ArrowLeft: -KEY_STEP_S, ArrowRight: KEY_STEP_S, ArrowDown: -KEY_STEP_S, ArrowUp: KEY_STEP_S }[event.key];
      const seconds = { Home: from, End: until }[event.key] ?? (step && player.currentTime + step);
      if (seconds === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      event.stopPropagation(); // not to the next hit
      to(seconds);
    },
  });
  const head = element("span", { class: "wave-head" });
  wave.append(head);
  let shown = hit;

  const span = () => [startOf(shown), shown.end_s ?? (Number.isFinite(player.duration) ? player.duration : startOf(shown) + 1)];
  const secondsAt = ({ clientX }) => {
    const { left, width } = wave.getBoundingClientRect();
    const [from, until] = span();
    return from + Math.min(1, Math.max(0, (clientX - left) / width)) * (until - from);
  };

  function to(seconds) {
    const last = Number.isFinite(player.duration) ? player.duration : seconds;
    player.currentTime = Math.min(last, Math.max(0, seconds));
    draw();
  }

  function draw() {
    const [from, until] = span();
    const share = (player.currentTime - from) / Math.max(1e-3, until - from);
    head.hidden = share < 0 || share > 1;
    head.style.setProperty("--share", share);
    wave.setAttribute("aria-valuemin", from);
    wave.setAttribute("aria-valuemax", until);
    wave.setAttribute("aria-valuenow", Math.min(until, Math.max(from, player.currentTime)));
    wave.setAttribute("aria-valuetext", clock(player.currentTime));
  }

  function show(window) {
    if (window.item_id === shown.item_id) return;
    shown = window;
    for (const image of frame.querySelectorAll("img")) {
      showThumbnail(image, window, image.matches(".large") ? 1280 : 320, { lazy: false });
    }
    draw();
  }

  player.addEventListener("loadedmetadata", () => to(startOf(hit)), { once: true });
  for (const name of ["timeupdate", "seeked"]) player.addEventListener(name, draw);
  const fail = () => {
    if (signal.aborted) return;
    player.hidden = true;
    cannot();
  };
  player.addEventListener("error", fail);
  signal.addEventListener("abort", () => {
    player.removeEventListener("error", fail);
    player.pause();
    player.removeAttribute("src");
    player.load(); // stops the download
  });
  links.then(
    ({ plain }) => {
      if (!signal.aborted) player.src = `${plain}#t=${startOf(hit)}`;
    },
    (error) => {
      if (error.name !== "AbortError") fail();
    },
  );
  frame.classList.add("of-sound");
  frame.append(wave);
  draw();
  return { player, show };
}
