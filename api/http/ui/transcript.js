// What is said in a video or a sound: a list that follows the player and leads to each moment, and captions.

import { element } from "./dom.js";
import { clock, t } from "./i18n.js";
import { marked } from "./query-words.js";
import { local } from "./storage.js";

// Of a segment without an end, in a caption.
const UNTIL_THE_NEXT_S = 5;

// What a file of subtitles or the video itself says, no model has heard.
const isOfSubtitles = (model) => model.startsWith("sidecar");

export function showTranscript(place, { segments, model }, find, player, hit) {
  const spoken = segments.filter(({ start_s: start, text }) => Number.isFinite(start) && text.trim());
  if (!spoken.length) return;
  const rows = spoken.map(({ start_s: start, text }) =>
    element(
      "li",
      {},
      player
        ? element(
            "button",
            { type: "button", "aria-label": t("playFrom", { time: clock(start) }), onclick: () => go(start) },
            clock(start),
          )
        : element("small", {}, clock(start)),
      element("span", { dir: "auto" }, ...marked(text.trim(), find(text.trim()))),
    ),
  );
  const go = (start) => {
    player.currentTime = start;
    player.play().catch(() => {});
  };
  const list = element("ol", { class: "transcript", "aria-label": t("transcript") }, ...rows);
  place.append(
    element(
      "section",
      {},
      element("h3", {}, t("transcript")),
      list,
      element("small", { class: "hint" }, isOfSubtitles(model) ? t("fromSubtitles") : t("transcribedBy", { name: model })),
    ),
  );
  const at = (seconds) => spoken.findLastIndex(({ start_s: start }) => start <= seconds + 0.05);
  let current = -1;
  const mark = (number) => {
    if (number === current) return;
    rows[current]?.removeAttribute("aria-current");
    rows[number]?.setAttribute("aria-current", "true");
    current = number;
    if (number >= 0 && !list.matches(":hover, :focus-within")) reveal(list, rows[number]);
  };
  mark(at(hit.start_s ?? hit.time_s ?? 0));
  if (!player) return;
  player.addEventListener("timeupdate", () => mark(at(player.currentTime)));
  addCaptions(player, spoken);
}

// Scrolls the list alone, not what it stands in.
function reveal(list, row) {
  const room = list.clientHeight - row.offsetHeight;
  list.scrollTop += row.getBoundingClientRect().top - list.getBoundingClientRect().top - room / 2;
}

function addCaptions(player, spoken) {
  const track = player.addTextTrack("captions", t("transcript"));
  spoken.forEach(({ start_s: start, end_s: end, text }, number) => {
    const last = end ?? spoken[number + 1]?.start_s ?? start + UNTIL_THE_NEXT_S;
    track.addCue(new VTTCue(start, Math.max(last, start), text.trim()));
  });
  track.mode = local.get("captions") === "off" ? "hidden" : "showing";
  // What someone has chosen holds for the next video.
  player.textTracks.addEventListener("change", () => local.set("captions", track.mode === "showing" ? "on" : "off"));
}
