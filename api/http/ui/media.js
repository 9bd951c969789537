// A video or a sound in the viewer: its player, the strip of its shots or windows, and the moments that match.

import { element } from "./dom.js";
import { startOf } from "./file-times.js";
import { t } from "./i18n.js";
import { makeSound } from "./sound.js";
import { showStoryboard } from "./storyboard.js";
import { makePlayer, seek, showMoments } from "./video.js";

export const isMedia = ({ kind }) => kind === "video" || kind === "audio";

// Puts a player into the frame of the still of a hit. `links`: a promise of the addresses of its file. `moments`: a
// promise of the other hits in it. `show(item)` shows another item of the file, where the browser cannot play it,
// which `cannot(why)` is told. Returns {player, content: what is to stand in the stage, side: what beside it}.
export function showMedia(frame, hit, { links, moments, show, cannot, signal }) {
  let canPlay = true;
  const fail = () => {
    canPlay = false;
    cannot(t(hit.kind === "audio" ? "cannotPlaySound" : "cannotPlay"));
  };
  const sound = hit.kind === "audio" ? makeSound(frame, hit, links, { signal, cannot: fail }) : null;
  const player = sound?.player ?? makePlayer(frame, hit, links, { signal, cannot: fail });
  const choose = (item) => {
    if (!canPlay) return show(item);
    frame.classList.remove("looked-at");
    seek(player, startOf(item));
    player.play().catch(() => {});
  };
  const strip = element("div", { class: "storyboard", hidden: true });
  const side = element("section", { class: "moments-of" });
  moments
    .then((hits) => signal.aborted || showMoments(side, hits, hit.item_id, choose))
    .catch(() => {}); // the player is there without them
  showStoryboard(strip, hit, choose, signal).then((board) => {
    if (!board) return;
    const follow = () => {
      const part = board.follow(player.currentTime);
      sound?.show(part);
    };
    for (const name of ["timeupdate", "seeked"]) player.addEventListener(name, follow);
  });
  return { player, content: element("div", { class: "media" }, frame, sound && player, strip), side };
}
