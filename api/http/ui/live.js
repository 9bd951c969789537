// Follows the library: what is added while the page is open, by jobs here or by programs elsewhere.
// An empty library fills by itself; what somebody looks at never moves: new pictures are offered.

import * as api from "./api.js";
import { byId } from "./dom.js";
import { t } from "./i18n.js";
import { button } from "./manage-parts.js";

const QUICK_S = 2;
const SLOWEST_S = 30;
const SLOWER_BY = 1.5;
// What is told of a large library takes a while to be counted.
const SAID_EVERY_MS = 15_000;

const place = byId("fresh");
let known = null;
let offered = 0;
let isOffered = false;
let isWorking = false;
let lastSaid = -Infinity;

export const isIndexing = () => isWorking;

// `isEmpty()`: whether nothing is there to be looked at; `show()` asks the service again; `said()` is
// called when what is told of the library may be another.
export async function followLibrary(page) {
  if (known) return;
  known = { revision: null, last_item: 0 };
  let wait_s = QUICK_S;
  for (;;) {
    if (document.hidden) await visible();
    const isQuiet = await look(page).catch(() => true);
    wait_s = isQuiet ? Math.min(SLOWEST_S, wait_s * SLOWER_BY) : QUICK_S;
    await api.pause(wait_s);
  }
}

const visible = () =>
  new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));

async function look(page) {
  const told = await api.changes(known.last_item);
  const isFirst = known.revision === null;
  const hasChanged = !isFirst && told.revision !== known.revision;
  const worked = isWorking;
  isWorking = told.jobs > 0;
  showWork();
  const added = told.images + told.texts;
  known.revision = told.revision;
  if (isFirst) known.last_item = told.last_item;
  if (page.isEmpty()) {
    if (hasChanged && added) await refresh(page, told);
    else if (worked !== isWorking || hasChanged) page.said();
    return false;
  }
  if (hasChanged) {
    if (performance.now() - lastSaid > SAID_EVERY_MS) {
      lastSaid = performance.now();
      page.said();
    }
    offered = added;
    showOffer(page, told);
  }
  return !hasChanged && !isWorking;
}

async function refresh(page, told) {
  known.last_item = told.last_item;
  offered = 0;
  showOffer(page, told);
  await page.show();
}

function showOffer(page, told) {
  const had = place.contains(document.activeElement);
  isOffered = offered > 0;
  const name = told.images ? "freshPictures" : "freshTexts";
  const n = told.images || told.texts;
  const show = button(t(n < 10_000 ? name : "freshMany", { n }), () => refresh(page, told), "primary");
  place.replaceChildren(...(isOffered ? [show] : []));
  if (had && isOffered) show.focus();
}

function showWork() {
  const label = t(isWorking ? "manageWorking" : "manage");
  const opener = byId("manage-button");
  opener.classList.toggle("working", isWorking);
  opener.setAttribute("aria-label", label);
  opener.title = label;
}
