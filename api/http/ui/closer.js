// A closer look at what was found: its order is better, but nothing that is seen moves by itself.

import { byId } from "./dom.js";
import { grid } from "./grid.js";

// What was shown for so long has been looked at.
const LOOKED_MS = 500;

const list = byId("hits");
let shownAt = 0;
let furthest = -1;

// New hits were drawn.
export function startReading() {
  shownAt = performance.now();
  furthest = -1;
}

// Other hits have come into the window.
export function read() {
  furthest = Math.max(furthest, grid.lastVisible());
}

// How many of the first hits stay where they are: none if they were drawn just now and neither the pointer
// nor the focus is among them, else all that were in the window.
export function keptHits() {
  const isTouched = list.matches(":hover") || list.contains(document.activeElement) || scrollY > 0;
  return isTouched || performance.now() - shownAt > LOOKED_MS ? furthest + 1 : 0;
}

const differs = (one, other, count) => {
  for (let at = 0; at < count; at += 1) if (one[at]?.item_id !== other[at]?.item_id) return true;
  return false;
};

// Joins what is shown with what a closer look found, as another feed. Returns whether anything is in
// another place, and whether what was kept would be elsewhere.
export function joinCloser(shown, closer) {
  const better = [...closer.hits];
  const kept = Math.min(keptHits(), shown.hits.length);
  const isOther = differs(shown.hits, better, Math.max(shown.hits.length, better.length));
  const isOffered = differs(shown.hits, better, kept);
  shown.follow(closer, kept);
  return { isOther: isOther && kept < shown.hits.length, isOffered, better };
}

// Puts the order of the closer look first.
export function takeBetter(closer, better) {
  const ids = new Set(better.map((hit) => hit.item_id));
  closer.hits.splice(0, closer.hits.length, ...better, ...closer.hits.filter((hit) => !ids.has(hit.item_id)));
}
