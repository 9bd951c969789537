// Recent and saved searches below the search field: a combobox with a list (WAI-ARIA). Recent ones
// stay in this browser.

import * as api from "./api.js";
import { askName, read } from "./collections.js";
import { byId, element, icon } from "./dom.js";
import { t } from "./i18n.js";
import { library } from "./library.js";
import { fromAddress, toAddress } from "./query.js";
import { local } from "./storage.js";
import { tell } from "./toast.js";

const MOST_RECENT = 20;
const MOST_SHOWN = 6;
// A search counts as one when it was looked at for so long, or something in it was opened.
const LOOKED_MS = 2500;
// What is typed on within this is not another search.
const SAME_THOUGHT_MS = 30_000;

const text = byId("text");
const list = element("ul", { role: "listbox", id: "suggestions" });
const foot = element("div", { class: "suggest-foot" });
const box = element("div", { class: "suggest", hidden: true }, list, foot);
byId("search").after(box);

text.setAttribute("role", "combobox");
text.setAttribute("aria-autocomplete", "list");
text.setAttribute("aria-controls", "suggestions");
text.setAttribute("aria-expanded", "false");

let page = null;
let savedSearches = null;
let active = -1;
let looked = null;

// page: {query(), open(query), focusHits()}
export function listenToSuggestions(given) {
  page = given;
}

// ---- Recent searches

function recent() {
  try {
    const kept = JSON.parse(local.get("recent") ?? "[]");
    return Array.isArray(kept) ? kept.filter((one) => typeof one.address === "string" && typeof one.text === "string") : [];
  } catch {
    return [];
  }
}

// A picture or a sound of this window cannot be searched with again.
const canBeKept = (query) => query.text.trim() !== "" && !query.things.some(({ type }) => type !== "item");

export function noteSearch(query, { now = false } = {}) {
  clearTimeout(looked);
  if (!canBeKept(query)) return;
  const keep = () => {
    const one = { text: query.text.trim(), address: toAddress(query).slice(3), at: Date.now() };
    const isBefore = (other) =>
      other.address === one.address ||
      (one.at - other.at < SAME_THOUGHT_MS && one.text.startsWith(other.text));
    local.set("recent", JSON.stringify([one, ...recent().filter((other) => !isBefore(other))].slice(0, MOST_RECENT)));
  };
  if (now) keep();
  else looked = setTimeout(keep, LOOKED_MS);
}

function forgetRecent() {
  clearTimeout(looked);
  local.set("recent", "[]");
  show();
  text.focus();
}

// ---- The list

async function readSaved() {
  try {
    savedSearches = (await read("/v1/searches")).searches.filter(({ address }) => address !== null);
  } catch {
    savedSearches = [];
  }
}

function matching() {
  const typed = text.value.trim().toLowerCase();
  const fits = (name) => name.toLowerCase().includes(typed);
  const saved = (savedSearches ?? [])
    .filter(({ name }) => fits(name))
    .map(({ name, address }) => ({ kind: "saved", name, address }));
  const others = recent()
    .filter((one) => fits(one.text) && one.text.toLowerCase() !== typed)
    .map((one) => ({ kind: "recent", name: one.text, address: one.address }));
  return [...saved.slice(0, MOST_SHOWN), ...others.slice(0, MOST_SHOWN)];
}

async function open() {
  show();
  if (savedSearches === null) {
    await readSaved();
    if (document.activeElement === text) show();
  }
}

function show() {
  const found = matching();
  active = -1;
  list.setAttribute("aria-label", t("suggestions"));
  list.replaceChildren(
    ...found.map((one, at) =>
      element(
        "li",
        { role: "option", id: `suggestion-${at}`, "aria-selected": "false", "data-address": one.address },
        icon(one.kind === "saved" ? "bookmark" : "recent"),
        element("span", { dir: "auto" }, one.name),
        element("small", {}, t(`suggestion_${one.kind}`)),
      ),
    ),
  );
  const canSave = library.canWrite && canBeKept(page.query());
  foot.replaceChildren(
    canSave ? footButton("save-search", t("saveSearch"), saveSearch) : "",
    found.some(({ kind }) => kind === "recent") ? footButton("forget-recent", t("forgetRecent"), forgetRecent) : "",
  );
  list.hidden = !found.length;
  const isOpen = found.length > 0 || (canSave && text.value !== "" && !box.hidden);
  setOpen(isOpen);
}

const footButton = (id, name, onclick) => element("button", { type: "button", class: "text-link", id, onclick }, name);

function setOpen(isOpen) {
  box.hidden = !isOpen;
  text.setAttribute("aria-expanded", String(isOpen && !list.hidden));
  if (!isOpen) mark(-1);
  else place();
}

// Below the field, wherever that is.
function place() {
  const field = byId("search").getBoundingClientRect();
  const bar = box.offsetParent?.getBoundingClientRect() ?? { left: 0, top: 0 };
  box.style.setProperty("inset-inline-start", `${field.left - bar.left}px`);
  box.style.setProperty("inset-block-start", `${field.bottom - bar.top + 6}px`);
  box.style.setProperty("inline-size", `${field.width}px`);
}

function mark(at) {
  active = at;
  [...list.children].forEach((option, index) => option.setAttribute("aria-selected", String(index === at)));
  if (at >= 0) {
    text.setAttribute("aria-activedescendant", list.children[at].id);
    list.children[at].scrollIntoView({ block: "nearest" });
  } else {
    text.removeAttribute("aria-activedescendant");
  }
}

function choose(option) {
  setOpen(false);
  page.open(fromAddress(option.dataset.address));
}

function saveSearch() {
  const query = page.query();
  setOpen(false);
  askName(t("saveSearch"), query.text.trim(), t("save"), async (name) => {
    const address = toAddress(query).slice(3);
    await api.request("/v1/searches", { body: { name, address } });
    await readSaved();
    tell(t("wasSaved", { name: name.trim() }));
  });
}

text.addEventListener("click", () => {
  box.hidden = false;
  open();
});
text.addEventListener("input", open);
byId("search").addEventListener("submit", () => {
  setOpen(false);
  noteSearch(page.query(), { now: true });
});

// Before the page hears the key.
text.addEventListener(
  "keydown",
  (event) => {
    if (event.isComposing) return;
    const count = list.hidden ? 0 : list.children.length;
    if (event.altKey && event.key === "ArrowDown") {
      event.preventDefault();
      event.stopImmediatePropagation();
      box.hidden = false;
      open();
      return;
    }
    if (box.hidden || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowDown" && count && active < count - 1) mark(active + 1);
    else if (event.key === "ArrowUp" && count) mark(active < 0 ? count - 1 : active - 1);
    else if (event.key === "Enter" && active >= 0) choose(list.children[active]);
    else if (event.key === "Escape") setOpen(false);
    else {
      if (event.key === "ArrowDown") setOpen(false); // past the last one: on to the pictures
      return;
    }
    event.preventDefault();
    event.stopImmediatePropagation();
  },
  true,
);

document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement === text && !text.value) open();
});

list.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus
list.addEventListener("click", (event) => {
  const option = event.target.closest("[role=option]");
  if (option) choose(option);
});
document.addEventListener("focusout", (event) => {
  if (box.hidden || !event.relatedTarget) return;
  if (event.relatedTarget !== text && !box.contains(event.relatedTarget)) setOpen(false);
});
document.addEventListener("pointerdown", (event) => {
  if (!box.hidden && !event.target.closest("#search, .suggest")) setOpen(false);
});
addEventListener("resize", () => box.hidden || place());
