// The grid of pictures, or the list of chunks. The places of all pictures are known before the
// pictures are, as the service says their sizes: nothing moves when they come. Only what is near the
// window is in the document.

import { byId, element, fileName, icon, iconButton } from "./dom.js";
import { isSound, timeOf } from "./file-times.js";
import { monthOf, t } from "./i18n.js";
import { selectable } from "./selection.js";
import { dropThumbnail, hurry, returnThumbnail, sharpSize, showThumbnail } from "./thumbnails.js";
import { virtualList } from "./virtual.js";

// Narrower or wider ones are cut, so that a panorama does not fill a row by itself.
const [NARROWEST, WIDEST] = [0.55, 2.6];
const RATIO_OF_UNKNOWN = { document: 0.75, video: 16 / 9, text: 1, table: 1, image: 1, audio: 2 };
const KEPT_CELLS = 400;

const list = byId("hits");
const row = byId("passage-list");
// By item id, those last shown at the end.
const cells = new Map();
const passages = new Map();
let shownFeed = null;
let shownActions = null;
let isByDate = false;
let whenShown = () => {};

export const grid = virtualList(list, {
  cellOf,
  ratioOf: (hit) => Math.min(WIDEST, Math.max(NARROWEST, ratioOf(hit))),
  forget: (cell) => {
    const image = cell.querySelector("img");
    if (image) dropThumbnail(image);
  },
  headingOf: ({ heading }) => element("li", { class: "hits-month" }, element("h2", {}, heading)),
  shown: () => whenShown(),
  hurried: hurry,
});

// `call` is called when other cells have come near the window.
export const onShown = (call) => (whenShown = call);

// Shows the hits of a feed. `addressOf(hit)` is where a link to it leads; `open(item id)` shows it;
// `like(item id)` searches. byDate: they come in the order of their dates, and are shown by month.
export function showHits(feed, actions, { byDate = false } = {}) {
  if (isByDate !== byDate) cells.clear();
  [shownFeed, shownActions, isByDate] = [feed, actions, byDate];
  for (const cell of cells.values()) cell.dataset.stale = "";
  grid.show(sourceOf(feed));
}

// The feed has got more hits, or knows more of how many there are.
export function hitsChanged() {
  if (shownFeed) grid.changed(sourceOf(shownFeed));
}

function sourceOf(feed) {
  const length = Math.max(feed.hits.length, feed.total ?? 0);
  return {
    hits: feed.hits,
    length,
    isComplete: feed.done || feed.total !== null,
    sections: isByDate ? sectionsByMonth(feed, length) : [{ from: 0, to: length, goesOn: !feed.done && feed.total === null }],
    areCards: list.classList.contains("chunks"),
    load: (from, to) => feed.load(from, to).catch((error) => feed.failed(error)),
  };
}

// Months as the service counts them, of a list; as far as they are loaded, of a search.
function sectionsByMonth(feed, length) {
  const sections = [];
  if (feed.months && !feed.isSearch) {
    let from = 0;
    for (const { value, count } of feed.months) {
      sections.push({ from, to: Math.min(length, from + count), heading: monthOf(value) });
      from += count;
    }
    if (from < length) sections.push({ from, to: length, heading: t("noDate") });
    return sections.filter(({ from: first, to }) => first < to);
  }
  const loaded = feed.hits.findIndex((hit) => !hit);
  const end = loaded < 0 ? feed.hits.length : loaded;
  for (let at = 0; at < end; at += 1) {
    const taken = feed.hits[at].taken_local;
    const heading = taken ? monthOf(taken.slice(0, 7)) : t("noDate");
    if (sections.at(-1)?.heading !== heading) sections.push({ from: at, to: at, heading });
    sections.at(-1).to = at + 1;
  }
  if (sections.length && !feed.done) sections.at(-1).goesOn = true;
  if (end < length) sections.push({ from: end, to: length, heading: "" });
  return sections;
}

// The texts that were found beside the pictures, in a row of their own.
export function showPassages(hits, actions, { append = false } = {}) {
  if (!append) passages.clear();
  for (const hit of hits) if (!passages.has(hit.item_id)) passages.set(hit.item_id, makeCell(hit, actions));
  row.replaceChildren(...passages.values());
  byId("passages").hidden = !row.childElementCount;
}

export function setModality(modality) {
  list.classList.toggle("chunks", modality === "text");
  list.setAttribute("aria-label", t(modality === "text" ? "hitsChunks" : "hits"));
}

export async function focusHit(id) {
  const passage = passages.get(id);
  if (passage) return passage.querySelector("a").focus();
  const index = shownFeed?.hits.findIndex((hit) => hit?.item_id === id) ?? -1;
  if (index < 0) return null;
  // What can be seen, if only in part, is focused where it is.
  const cell = grid.seen(index);
  return cell ? cell.querySelector("a").focus({ preventScroll: true }) : focusIndex(index);
}

async function focusIndex(index) {
  const cell = await grid.reveal(index);
  cell?.querySelector("a").focus({ preventScroll: true });
}

export const forgetHits = () => cells.clear();

// A cell whose image is loaded already is reused, so that it does not flicker.
function cellOf(hit) {
  let cell = cells.get(hit.item_id);
  cells.delete(hit.item_id);
  if (!cell || cell.classList.contains("chunk") !== (hit.modality === "text")) cell = makeCell(hit, shownActions);
  else if ("stale" in cell.dataset) cell.querySelector("a").href = shownActions.addressOf(hit);
  delete cell.dataset.stale;
  const image = cell.querySelector("img");
  if (image) returnThumbnail(image);
  cell.classList.toggle("by-date", isByDate);
  cells.set(hit.item_id, cell);
  for (const [id, other] of cells) {
    if (cells.size <= KEPT_CELLS) break;
    if (!other.isConnected) cells.delete(id);
    else break;
  }
  return cell;
}

export function ratioOf(hit) {
  if (hit.width && hit.height) return hit.width / hit.height;
  return RATIO_OF_UNKNOWN[isSound(hit) ? "audio" : hit.kind];
}

function makeCell(hit, actions) {
  const name = fileName(hit.path);
  const link = element("a", {
    class: "hit-link",
    href: actions.addressOf(hit),
    draggable: false,
    onclick: (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      actions.open(hit.item_id);
    },
  });
  const like = iconButton("like", t("like", { name }), () => actions.like(hit.item_id), "hit-like");
  if (hit.modality === "text") {
    // What a model found in a picture, a video or a sound is shown with it.
    const isFound = Boolean(hit.found_by && hit.thumbnail);
    const picture = isFound ? element("img", { class: "chunk-picture", alt: "", decoding: "async" }) : null;
    if (picture) showThumbnail(picture, hit, 160);
    link.classList.toggle("with-picture", isFound);
    link.append(
      ...[picture].filter(Boolean),
      element("span", { class: "chunk-text", dir: "auto" }, hit.text ?? ""),
      element("span", { class: "chunk-file" }, [name, ...marksOf(hit)].join(" · ")),
    );
    return selectable(element("li", { class: "chunk" }, link, like), hit);
  }
  const ratio = Math.min(WIDEST, Math.max(NARROWEST, ratioOf(hit)));
  const cell = element("li", { class: isSound(hit) ? "hit of-sound" : "hit" }, link, like);
  cell.style.setProperty("--ratio", ratio.toFixed(4));
  const image = element("img", { alt: [shortened(hit.text), name, ...marksOf(hit)].filter(Boolean).join(", "), decoding: "async" });
  showThumbnail(image, hit, sharpSize(ratio, grid.row() * 1.15));
  link.append(image, badges(hit), element("span", { class: "hit-name", "aria-hidden": "true" }, nameOf(hit)));
  return selectable(cell, hit);
}

const MOST_SAID = 160;
const shortened = (text) => (text?.length > MOST_SAID ? `${text.slice(0, MOST_SAID)}…` : text);

// Of a page that was found by its words, with these.
const nameOf = (hit) => [fileName(hit.path), hit.text].filter(Boolean).join(" · ");

function marksOf(hit) {
  const marks = [];
  const time = timeOf(hit);
  if (time) marks.push(hit.modality === "text" ? t("atTime", { time }) : time);
  if (hit.page) marks.push(t("pageShort", { n: hit.page }));
  return marks;
}

const iconOf = (hit) => (isSound(hit) ? icon("sound") : hit.kind === "video" ? icon("play") : null);

function badges(hit) {
  const marks = marksOf(hit).map((mark) =>
    element("span", { class: "badge" }, iconOf(hit), mark),
  );
  if (hit.taken_from === "mtime") {
    marks.push(element("span", { class: "badge file-date", title: t("fileDateHint") }, t("fileDate")));
  }
  const others = hit.group?.length;
  if (others) {
    marks.push(element("span", { class: "badge", title: t("sameFile", { n: others }) }, `+${others}`));
  }
  return element("span", { class: "badges", "aria-hidden": "true" }, ...marks);
}

// Arrow keys go to the neighbour in the direction that they show, as the eye sees it.
list.addEventListener("keydown", (event) => {
  const link = event.target.closest("a.hit-link");
  if (!link || event.altKey || event.ctrlKey || event.metaKey) return;
  const at = grid.indexOfCell(link.closest("li"));
  if (at < 0) return;
  const forward = getComputedStyle(list).direction === "rtl" ? -1 : 1;
  const last = Math.max(shownFeed.hits.length, shownFeed.total ?? 0) - 1;
  const target = {
    ArrowRight: () => at + forward,
    ArrowLeft: () => at - forward,
    ArrowDown: () => grid.inNextRow(at, 1),
    ArrowUp: () => grid.inNextRow(at, -1),
    Home: () => 0,
    End: () => last,
  }[event.key]?.();
  if (target === undefined || target === null || target < 0 || target > last) return;
  event.preventDefault();
  focusIndex(target);
});

export function focusFirstHit() {
  if (shownFeed?.hits.length) focusIndex(0);
}
