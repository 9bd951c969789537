// The shots of a video, or the windows of a sound, as a strip of pictures below the player.

import { items } from "./api.js";
import { element } from "./dom.js";
import { startOf } from "./file-times.js";
import { clock, t } from "./i18n.js";
import { showThumbnail } from "./thumbnails.js";

const PAGE = 1000;

// Those of a file, by time.
async function partsOf({ path }, modality, signal) {
  const found = [];
  let cursor = null;
  do {
    const asked = { where: { source: path }, cursor, modality, limit: PAGE, order: "oldest" };
    const page = await items(asked, signal);
    found.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor);
  return found.filter(({ time_s: time }) => time !== null).sort((a, b) => startOf(a) - startOf(b));
}

// Fills the strip for a hit, of its shots or else of its windows. `choose(item)` leads to one. Resolves to
// {follow(seconds): marks the one that is played and returns it}, or to null where there is but one.
export async function showStoryboard(strip, hit, choose, signal) {
  let parts = [];
  try {
    if (hit.kind === "video") parts = await partsOf(hit, "image", signal);
    if (parts.length < 2) parts = await partsOf(hit, "audio", signal);
  } catch {
    return null; // the player is there without it
  }
  if (signal.aborted || parts.length < 2) return null;
  // A passage of what is said lies in one of them.
  const isHit = parts.some((item) => item.item_id === hit.item_id)
    ? (item) => item.item_id === hit.item_id
    : (item) => item === parts[indexAt(parts, startOf(hit))];
  const buttons = parts.map((item) => {
    const picture = element("img", { alt: "" });
    const button = element(
      "button",
      {
        type: "button",
        class: isHit(item) ? "hit" : "",
        tabIndex: isHit(item) ? 0 : -1,
        "aria-label": t(isHit(item) ? "shotFound" : "momentAt", { time: clock(startOf(item)) }),
        onclick: () => choose(item),
      },
      picture,
      element("span", { "aria-hidden": "true" }, clock(startOf(item))),
    );
    showThumbnail(picture, item, 160);
    return button;
  });
  strip.setAttribute("role", "toolbar");
  strip.setAttribute("aria-label", t(parts[0].modality === "audio" ? "windows" : "shots"));
  strip.replaceChildren(...buttons);
  strip.hidden = false;
  strip.onkeydown = (event) => walk(event, buttons);
  let current = -1;
  const follow = (seconds) => {
    const number = Math.max(0, indexAt(parts, seconds));
    if (number !== current) {
      buttons[current]?.removeAttribute("aria-current");
      buttons[number].setAttribute("aria-current", "true");
      current = number;
      if (!strip.matches(":hover, :focus-within")) bring(strip, buttons[number]);
    }
    return parts[number];
  };
  follow(startOf(hit));
  return { follow };
}

const indexAt = (parts, seconds) => parts.findLastIndex((item) => startOf(item) <= seconds + 0.05);

function bring(strip, button) {
  const [room, from] = [strip.getBoundingClientRect(), button.getBoundingClientRect()];
  strip.scrollLeft += from.left - room.left - (room.width - from.width) / 2;
}

// One of them is in the order of Tab; arrows go to the others.
function walk(event, buttons) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const at = buttons.indexOf(document.activeElement);
  const forward = getComputedStyle(event.currentTarget).direction === "rtl" ? -1 : 1;
  const to = { ArrowLeft: at - forward, ArrowRight: at + forward, Home: 0, End: buttons.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  event.stopPropagation(); // not to the next hit
  const next = buttons[to];
  if (!next) return;
  for (const button of buttons) button.tabIndex = button === next ? 0 : -1;
  next.focus({ preventScroll: true });
  bring(event.currentTarget, next);
}
