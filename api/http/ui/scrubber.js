// The dates at the side of a list by date: years and months with their counts, to jump to by dragging, by
// a tap or with the keys of a slider.

import { byId, element } from "./dom.js";
import { grid } from "./grid.js";
import { monthOf, t } from "./i18n.js";

const LABEL_PX = 20;

const box = byId("scrubber");
const handle = element("span", { class: "scrubber-handle", "aria-hidden": "true" });
const bubble = element("span", { class: "scrubber-bubble", "aria-hidden": "true", hidden: true });
let months = []; // {value, count, from}, `from`: the index of its first hit
let length = 0;
let isDragged = false;

// feed: what is listed by date, or null.
export function showScrubber(feed) {
  months = [];
  let from = 0;
  for (const { value, count } of feed?.months ?? []) {
    if (feed.total !== null && from >= feed.total) break;
    months.push({ value, count, from });
    from += count;
  }
  length = Math.max(feed?.total ?? 0, from);
  if (length > from) months.push({ value: "", count: length - from, from });
  box.hidden = months.length < 2;
  document.body.classList.toggle("has-scrubber", !box.hidden);
  if (box.hidden) return;
  box.setAttribute("aria-valuemin", "0");
  box.setAttribute("aria-valuemax", String(months.length - 1));
  label();
  moveScrubber();
}

const topOf = (month) => grid.boxOf(month.from).top;
const shareOf = (month) => topOf(month) / Math.max(1, grid.height());
const nameOf = (month) => (month.value ? monthOf(month.value) : t("noDate"));
const textOf = (month) => t("monthCounted", { month: nameOf(month), n: month.count });

// The years where they begin, as far as there is room for them.
function label() {
  const bar = document.querySelector(".bar").offsetHeight;
  box.style.setProperty("inset-block-start", `${bar + 20}px`);
  const tall = box.clientHeight;
  const labels = [];
  let [last, year] = [-Infinity, null];
  for (const month of months) {
    const its = month.value.slice(0, 4);
    if (its === year) continue;
    year = its;
    const y = shareOf(month) * tall;
    if (y - last < LABEL_PX || y > tall - LABEL_PX / 2) continue;
    last = y;
    const node = element("span", { class: "scrubber-year", "aria-hidden": "true" }, its || "–");
    node.style.setProperty("inset-block-start", `${y}px`);
    labels.push(node);
  }
  box.replaceChildren(...labels, handle, bubble);
}

// The month at a height of the list.
function monthAt(top) {
  let [low, high] = [0, months.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (topOf(months[middle]) <= top + 1) low = middle;
    else high = middle - 1;
  }
  return low;
}

// Follows the scrolling.
export function moveScrubber() {
  if (box.hidden || isDragged) return;
  const edge = document.querySelector(".bar").offsetHeight + 60;
  show(monthAt(grid.viewTop() + edge), Math.max(0, grid.viewTop()) / Math.max(1, grid.height()));
}

function show(at, share) {
  handle.style.setProperty("inset-block-start", `${100 * Math.min(1, share)}%`);
  bubble.style.setProperty("inset-block-start", `clamp(18px, ${100 * Math.min(1, share)}%, 100% - 18px)`);
  const text = textOf(months[at]);
  if (bubble.textContent !== text) bubble.textContent = text;
  if (box.getAttribute("aria-valuenow") !== String(at)) {
    box.setAttribute("aria-valuenow", String(at));
    box.setAttribute("aria-valuetext", text);
  }
}

const offset = () => document.querySelector(".bar").offsetHeight + 40;

function goTo(at) {
  const month = months[Math.min(months.length - 1, Math.max(0, at))];
  grid.reveal(month.from, { offset: offset() });
  isDragged = false;
  show(months.indexOf(month), shareOf(month));
}

function drag(event) {
  const { top, height } = box.getBoundingClientRect();
  const share = Math.min(1, Math.max(0, (event.clientY - top) / height));
  const y = share * grid.height();
  grid.scrollToTop(y, offset());
  show(monthAt(y), share);
}

box.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  event.preventDefault();
  box.focus({ preventScroll: true });
  box.setPointerCapture(event.pointerId);
  isDragged = true;
  bubble.hidden = false;
  drag(event);
});

box.addEventListener("pointermove", (event) => {
  if (isDragged) drag(event);
});

for (const name of ["pointerup", "pointercancel"]) {
  box.addEventListener(name, () => {
    isDragged = false;
    bubble.hidden = !box.matches(":focus-visible");
  });
}

box.addEventListener("focus", () => (bubble.hidden = false));
box.addEventListener("blur", () => (bubble.hidden = true));

box.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const at = Number(box.getAttribute("aria-valuenow"));
  const target = {
    ArrowDown: () => at + 1,
    ArrowRight: () => at + 1,
    ArrowUp: () => at - 1,
    ArrowLeft: () => at - 1,
    PageDown: () => inNextYear(at, 1),
    PageUp: () => inNextYear(at, -1),
    Home: () => 0,
    End: () => months.length - 1,
  }[event.key]?.();
  if (target === undefined) return;
  event.preventDefault();
  goTo(target);
});

function inNextYear(at, step) {
  const year = months[at].value.slice(0, 4);
  let next = at;
  while (months[next + step] && months[next].value.slice(0, 4) === year) next += step;
  if (step > 0) return next;
  const before = months[next].value.slice(0, 4);
  while (months[next - 1]?.value.slice(0, 4) === before) next -= 1;
  return next;
}

new ResizeObserver(() => {
  if (!box.hidden && months.length) label();
}).observe(box);
