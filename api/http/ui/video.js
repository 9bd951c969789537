// A video in the viewer: it stands over the still of the moment that was found, and begins there.

import { element, fileName } from "./dom.js";
import { startOf } from "./file-times.js";
import { clock, t } from "./i18n.js";
import { local } from "./storage.js";
import { showThumbnail } from "./thumbnails.js";

// Where players still show something.
const BEFORE_THE_END_S = 0.1;

const isSilenced = new WeakSet();
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// Puts a player into the frame of a picture. `links` is a promise of the addresses of the file; once it
// is known that the browser cannot play it, the still stays, and `cannot()` is called.
export function makePlayer(frame, hit, links, { signal, cannot }) {
  const video = element("video", {
    class: "player",
    controls: true,
    playsInline: true,
    preload: "metadata",
    "aria-label": fileName(hit.path),
    muted: local.get("sound") !== "on",
  });
  const start = startOf(hit);
  video.addEventListener("loadedmetadata", () => {
    if (!video.videoWidth) return fail(); // it can decode the sound alone
    seek(video, start);
    frame.classList.add("plays");
    if (!calm.matches && !navigator.connection?.saveData) begin(video);
  });
  video.addEventListener("error", fail);
  // What someone has chosen holds for the next video.
  video.addEventListener("volumechange", () => {
    if (!isSilenced.has(video)) local.set("sound", video.muted ? "off" : "on");
    isSilenced.delete(video);
  });
  function fail() {
    if (signal.aborted) return;
    frame.classList.remove("plays");
    video.remove();
    cannot();
  }
  signal.addEventListener("abort", () => {
    video.removeEventListener("error", fail);
    video.pause();
    video.removeAttribute("src");
    video.load(); // stops the download
  });
  links.then(
    ({ plain }) => {
      if (!signal.aborted) video.src = `${plain}#t=${start}`;
    },
    (error) => {
      if (error.name !== "AbortError") fail();
    },
  );
  frame.append(video);
  return video;
}

async function begin(video) {
  try {
    await video.play();
  } catch (error) {
    if (error.name !== "NotAllowedError" || video.muted) return; // paused: its button begins
    isSilenced.add(video); // by the browser, which wants a click before it makes a sound
    video.muted = true;
    video.play().catch(() => {});
  }
}

export function seek(video, seconds) {
  const last = Number.isFinite(video.duration) ? Math.max(0, video.duration - BEFORE_THE_END_S) : seconds;
  video.currentTime = Math.min(seconds, last);
}

// The other moments of a video that were found: buttons that lead there. `choose(hit)`.
export function showMoments(section, hits, current, choose) {
  if (hits.length < 2) return;
  section.replaceChildren(
    element("h3", {}, t("moments")),
    element(
      "ul",
      { class: "moments" },
      ...hits.map((hit) => {
        const picture = element("img", { alt: "" });
        showThumbnail(picture, hit, 160, { lazy: false });
        const button = element(
          "button",
          {
            type: "button",
            "aria-label": t("momentAt", { time: clock(hit.time_s) }),
            "aria-current": hit.item_id === current ? "true" : "false",
            onclick: () => {
              for (const other of section.querySelectorAll("button")) {
                other.setAttribute("aria-current", String(other === button));
              }
              choose(hit);
            },
          },
          picture,
          element("span", {}, clock(hit.time_s)),
        );
        return element("li", {}, button);
      }),
    ),
  );
}
