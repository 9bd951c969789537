// The grid of pictures, or the list of chunks. The places of all pictures are known before the
// pictures are, as the service says their sizes: nothing moves when they come.

import { byId, element, fileName, icon, iconButton } from "./dom.js";
import { clock, month, t } from "./i18n.js";
import { selectable } from "./selection.js";
import { sharpSize, showThumbnail } from "./thumbnails.js";

// Narrower or wider ones are cut, so that a panorama does not fill a row by itself.
const [NARROWEST, WIDEST] = [0.55, 2.6];
const RATIO_OF_UNKNOWN = { document: 0.75, video: 16 / 9, text: 1, table: 1, image: 1 };

const list = byId("hits");
const row = byId("passage-list");
let cells = new Map();
let lastMonth = null;

// `addressOf(hit)` is where a link to it leads; `open(item id)` shows it; `like(item id)` searches.
// byDate: they come in the order of their dates, and are shown by month.
export function showHits(hits, actions, { append = false, byDate = false } = {}) {
  const before = cells;
  if (!append) [cells, lastMonth] = [new Map(), null];
  const added = [];
  for (const hit of hits) {
    if (cells.has(hit.item_id)) continue;
    const cell = reused(before.get(hit.item_id), hit, actions) ?? makeCell(hit, actions);
    cell.classList.toggle("by-date", byDate);
    cells.set(hit.item_id, cell);
    if (byDate) added.push(...headingBefore(hit, cells.size === 1));
    added.push(cell);
  }
  if (append) {
    list.append(...added);
    return;
  }
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  list.replaceChildren(...added);
  if (focused?.isConnected) focused.focus({ preventScroll: true }); // it went while it was moved
}

// The texts that were found beside the pictures, in a row of their own. After `showHits`.
export function showPassages(hits, actions, { append = false } = {}) {
  const added = [];
  for (const hit of hits) {
    if (cells.has(hit.item_id)) continue;
    cells.set(hit.item_id, makeCell(hit, actions));
    added.push(cells.get(hit.item_id));
  }
  if (append) row.append(...added);
  else row.replaceChildren(...added);
  byId("passages").hidden = !row.childElementCount;
}

// The month of a hit, if it is not that of the hit before, behind what fills up the last row.
function headingBefore(hit, isFirst) {
  const shown = hit.taken_local ? month(hit.taken_local) : t("noDate");
  if (shown === lastMonth) return [];
  lastMonth = shown;
  const heading = element("li", { class: "hits-month" }, element("h2", {}, shown));
  return isFirst ? [heading] : [element("li", { class: "hits-fill", "aria-hidden": "true" }), heading];
}

export function setModality(modality) {
  list.classList.toggle("chunks", modality === "text");
  list.setAttribute("aria-label", t(modality === "text" ? "hitsChunks" : "hits"));
}

export function focusHit(id) {
  cells.get(id)?.querySelector("a").focus();
}

export const forgetHits = () => (cells = new Map());

// A cell whose image is loaded already is reused, so that it does not flicker.
function reused(cell, hit, actions) {
  if (!cell || cell.classList.contains("chunk") !== (hit.modality === "text")) return null;
  cell.querySelector("a").href = actions.addressOf(hit);
  return cell;
}

export function ratioOf(hit) {
  return hit.width && hit.height ? hit.width / hit.height : RATIO_OF_UNKNOWN[hit.kind];
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
    link.append(
      element("span", { class: "chunk-text", dir: "auto" }, hit.text ?? ""),
      element("span", { class: "chunk-file" }, [name, ...marksOf(hit)].join(" · ")),
    );
    return selectable(element("li", { class: "chunk" }, link, like), hit);
  }
  const ratio = Math.min(WIDEST, Math.max(NARROWEST, ratioOf(hit)));
  const cell = element("li", { class: "hit" }, link, like);
  cell.style.setProperty("--ratio", ratio.toFixed(4));
  const image = element("img", { alt: [name, ...marksOf(hit)].join(", "), decoding: "async" });
  const row = parseFloat(getComputedStyle(list).getPropertyValue("--row"));
  showThumbnail(image, hit, sharpSize(ratio, row * 1.15));
  link.append(image, badges(hit), element("span", { class: "hit-name", "aria-hidden": "true" }, nameOf(hit)));
  return selectable(cell, hit);
}

// Of a page that was found by its words, with these.
const nameOf = (hit) => [fileName(hit.path), hit.text].filter(Boolean).join(" · ");

function marksOf(hit) {
  const marks = [];
  if (hit.time_s !== null && hit.time_s !== undefined) marks.push(clock(hit.time_s));
  if (hit.page) marks.push(t("pageShort", { n: hit.page }));
  return marks;
}

function badges(hit) {
  const marks = marksOf(hit).map((mark) =>
    element("span", { class: "badge" }, hit.kind === "video" ? icon("play") : null, mark),
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
  const links = [...list.querySelectorAll("a.hit-link")];
  const at = links.indexOf(document.activeElement);
  if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  const forward = getComputedStyle(list).direction === "rtl" ? -1 : 1;
  const target = {
    ArrowRight: () => links[at + forward],
    ArrowLeft: () => links[at - forward],
    ArrowDown: () => inNextRow(links, at, 1),
    ArrowUp: () => inNextRow(links, at, -1),
    Home: () => links[0],
    End: () => links.at(-1),
  }[event.key]?.();
  if (!target) return;
  event.preventDefault();
  target.focus();
});

function inNextRow(links, at, step) {
  const here = links[at].getBoundingClientRect();
  const middle = here.left + here.width / 2;
  let best = null;
  let bestDistance = Infinity;
  let row = null;
  for (let other = at + step; links[other]; other += step) {
    const box = links[other].getBoundingClientRect();
    if (Math.abs(box.top - here.top) < 2) continue;
    row ??= box.top;
    if (Math.abs(box.top - row) > 2) break;
    const distance = Math.abs(box.left + box.width / 2 - middle);
    if (distance < bestDistance) [best, bestDistance] = [links[other], distance];
  }
  return best;
}

export const focusFirstHit = () => list.querySelector("a.hit-link")?.focus();
