// Which items are selected, by id, whatever is on the page. The grid makes an element of a hit
// selectable; marks follow the state, and the state follows clicks and keys.

import { element, icon } from "./dom.js";
import { t } from "./i18n.js";

const LONG_PRESS_MS = 450;
const STILL_PX = 10;

const selected = new Set();
let last = null;
let loadedIds = () => [];
let changed = () => {};

export const selectedIds = () => [...selected];

// `loaded()` gives the ids of all loaded hits in their order; `onChange()` is called after a change.
export function listenToSelection({ loaded, onChange }) {
  loadedIds = loaded;
  changed = onChange;
}

// Called for each element that is made of a hit, or used for another one.
export function selectable(cell, hit) {
  cell.dataset.item = hit.item_id;
  cell.querySelector(".hit-select")?.remove();
  const name = hit.path.split(/[\\/]/).pop();
  const label = t("selectOne", { name });
  cell.append(
    element(
      "button",
      { type: "button", class: "hit-select", role: "checkbox", tabindex: "-1", "aria-label": label, title: t("selectKey") },
      icon("select"),
    ),
  );
  cell.querySelector(".hit-link")?.setAttribute("aria-keyshortcuts", "x");
  mark(cell);
  return cell;
}

function mark(cell) {
  const isSelected = selected.has(Number(cell.dataset.item));
  cell.classList.toggle("selected", isSelected);
  cell.querySelector(".hit-select").setAttribute("aria-checked", String(isSelected));
}

function markAll() {
  document.body.classList.toggle("selecting", selected.size > 0);
  for (const cell of document.querySelectorAll("[data-item]")) mark(cell);
  changed();
}

export function clearSelection() {
  selected.clear();
  last = null;
  markAll();
}

// Takes items out, since they are not shown any more.
export function deselect(ids) {
  for (const id of ids) selected.delete(id);
  markAll();
}

// range: all between the last one that was selected and this one.
function toggle(id, { range = false } = {}) {
  const ids = loadedIds();
  const [from, to] = [ids.indexOf(last), ids.indexOf(id)];
  if (range && from >= 0 && to >= 0) {
    for (const one of ids.slice(Math.min(from, to), Math.max(from, to) + 1)) selected.add(one);
  } else if (!selected.delete(id)) {
    selected.add(id);
  }
  last = id;
  markAll();
}

export function selectAll() {
  for (const id of loadedIds()) selected.add(id);
  markAll();
}

const idOf = (node) => {
  const cell = node.closest?.("[data-item]");
  return cell ? Number(cell.dataset.item) : null;
};

let pressed = null;

// Before the link of the hit hears it. A key press on a link is a click without a pointer.
document.addEventListener(
  "click",
  (event) => {
    const id = idOf(event.target);
    if (id === null) return;
    const afterPress = pressed?.done === true;
    const onBox = event.target.closest(".hit-select") !== null;
    const onLink = event.target.closest(".hit-link") !== null;
    const selects = onBox || (onLink && selected.size > 0 && event.detail > 0 && !event.ctrlKey && !event.metaKey);
    if (!selects && !afterPress) return;
    event.preventDefault();
    event.stopPropagation();
    if (!afterPress) toggle(id, { range: event.shiftKey });
    pressed = null;
  },
  true,
);

// A long press begins to select where there is no pointer that could hover.
document.addEventListener("pointerdown", (event) => {
  cancelPress();
  const id = event.pointerType === "touch" ? idOf(event.target) : null;
  if (id === null) return;
  const press = { x: event.clientX, y: event.clientY, done: false };
  press.timer = setTimeout(() => {
    press.done = true;
    toggle(id);
    navigator.vibrate?.(10);
  }, LONG_PRESS_MS);
  pressed = press;
});
document.addEventListener("pointermove", (event) => {
  if (pressed && Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) > STILL_PX) cancelPress();
});
for (const name of ["pointerup", "pointercancel"]) {
  document.addEventListener(name, () => clearTimeout(pressed?.timer));
}
document.addEventListener("scroll", cancelPress, { passive: true, capture: true });
document.addEventListener("contextmenu", (event) => {
  if (pressed && idOf(event.target) !== null) event.preventDefault();
});

function cancelPress() {
  clearTimeout(pressed?.timer);
  pressed = null;
}

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.target.closest?.("input, select, textarea")) return;
  if (document.querySelector("dialog[open]")) return;
  const command = event.ctrlKey || event.metaKey;
  if (command && event.key.toLowerCase() === "a" && loadedIds().length) {
    event.preventDefault();
    selectAll();
  } else if (!command && event.key.toLowerCase() === "x" && idOf(event.target) !== null) {
    event.preventDefault();
    toggle(idOf(event.target), { range: event.shiftKey });
  } else if (event.key === "Escape" && selected.size) {
    event.preventDefault();
    clearSelection();
  }
});
