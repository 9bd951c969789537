// Where one was on the page, kept with each entry of the history, so that Back, Forward and a reload lead
// there again.

import { byId } from "./dom.js";
import { focusHit, grid } from "./grid.js";

const PAUSE_MS = 200;
const NEAR = 240;

let feed = null;
let saving = null;

history.scrollRestoration = "manual";

export const followPlacesOf = (shown) => (feed = shown);

// Keeps the place with the entry of the history that is current: before another one follows.
export function keepPlace() {
  clearTimeout(saving);
  saving = null;
  if (!feed) return;
  const { place: _old, ...state } = history.state ?? {};
  const place = placeNow();
  history.replaceState(place ? { ...state, place } : state, "");
}

function placeNow() {
  const anchor = grid.anchor();
  const cell = byId("hits").contains(document.activeElement) ? document.activeElement.closest("li") : null;
  const focused = cell ? feed.hits[grid.indexOfCell(cell)]?.item_id : undefined;
  if (!anchor && focused === undefined) return null;
  const { index, offset } = anchor ?? { index: 0, offset: null };
  return { index, offset, id: feed.hits[index]?.item_id, total: feed.total, focused };
}

export const keptPlace = () => history.state?.place ?? null;

// Resolves when the place is shown again. changed(): shows what has become known of the feed.
export async function returnTo(place, shown, changed) {
  if (shown.hasMonths) await shown.count();
  else if (!shown.done) shown.total = Math.max(shown.hits.length, place.total ?? 0) || null;
  changed();
  // It may have moved a little, where files came or went meanwhile.
  await shown.load(Math.max(0, place.index - NEAR), place.index + NEAR);
  const found = shown.hits.findIndex((hit) => hit && hit.item_id === place.id);
  if (place.offset !== null) await grid.reveal(found < 0 ? place.index : found, { offset: place.offset });
  if (place.focused !== undefined && document.activeElement === document.body) {
    await focusHit(place.focused);
  }
}

function later() {
  clearTimeout(saving);
  saving = setTimeout(keepPlace, PAUSE_MS);
}

addEventListener("scroll", later, { passive: true });
byId("hits").addEventListener("focusin", later);
addEventListener("pagehide", keepPlace);
