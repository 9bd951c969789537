// The dialog in which a library is added to, watched and mended. Its tab stands in the address.

import { addPanel } from "./add.js";
import { byId, element, iconButton } from "./dom.js";
import { t } from "./i18n.js";
import { jobsPanel } from "./jobs.js";
import { problemsPanel } from "./problems.js";
import { storagePanel } from "./storage-panel.js";

// Each draws itself into a place, and may return what ends it.
const PANELS = { add: addPanel, jobs: jobsPanel, problems: problemsPanel, storage: storagePanel };
const NAMES = Object.keys(PANELS);

const dialog = byId("manage");
let shown = null;
let isPushed = false;
let panel = null;
let leave = () => {};

const asked = () => {
  const address = new URLSearchParams(location.search);
  return address.has("manage") ? (NAMES.find((name) => name === address.get("manage")) ?? "add") : null;
};

function addressWith(name) {
  const address = new URLSearchParams(location.search);
  address.delete("manage");
  if (name !== null) address.set("manage", name);
  return address.size ? `./?${address}` : "./";
}

// Opens it, or goes to another tab of it.
export function manage(name = "add") {
  if (dialog.open) history.replaceState(null, "", addressWith(name));
  else {
    history.pushState(null, "", addressWith(name));
    isPushed = true;
  }
  follow();
}

function follow() {
  const name = asked();
  if (name === null) {
    if (dialog.open) dialog.close();
    return;
  }
  const isNew = !dialog.open;
  if (isNew) open();
  if (name !== shown) show(name);
  if (isNew) byId(`manage-tab-${name}`).focus();
}

function open() {
  panel = element("div", { class: "manage-panel", id: "manage-panel", role: "tabpanel", tabIndex: 0 });
  dialog.replaceChildren(
    element(
      "div",
      { class: "manage-head" },
      element("h2", { id: "manage-title" }, t("manage")),
      iconButton("close", t("close"), () => dialog.close()),
    ),
    element(
      "div",
      { class: "manage-tabs", role: "tablist", "aria-labelledby": "manage-title", onkeydown: walk },
      ...NAMES.map(tab),
    ),
    panel,
  );
  dialog.showModal();
}

const tab = (name) =>
  element(
    "button",
    {
      type: "button",
      role: "tab",
      id: `manage-tab-${name}`,
      "aria-controls": "manage-panel",
      onclick: () => manage(name),
    },
    t(`manage_${name}`),
  );

function show(name) {
  leave();
  shown = name;
  for (const each of NAMES) {
    const button = byId(`manage-tab-${each}`);
    button.setAttribute("aria-selected", String(each === name));
    button.tabIndex = each === name ? 0 : -1;
  }
  panel.setAttribute("aria-labelledby", `manage-tab-${name}`);
  panel.replaceChildren();
  panel.scrollTop = 0;
  const ending = new AbortController();
  leave = () => ending.abort();
  PANELS[name](panel, { signal: ending.signal, goTo: manage });
}

function walk(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const next =
    { Home: NAMES[0], End: NAMES.at(-1) }[event.key] ??
    (step && NAMES[(NAMES.indexOf(shown) + step + NAMES.length) % NAMES.length]);
  if (!next) return;
  event.preventDefault();
  manage(next);
  byId(`manage-tab-${next}`).focus();
}

dialog.addEventListener("close", () => {
  leave();
  shown = null;
  if (asked() !== null) {
    if (isPushed) history.back();
    else history.replaceState(null, "", addressWith(null));
  }
  isPushed = false;
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
byId("manage-button").addEventListener("click", () => manage());
addEventListener("popstate", follow);

export { follow as followManageAddress };
