// A filter of several values: a group that opens, with the values that there are and their counts. Branches of
// folders, places and years are read when they are opened, and long lists can be searched within.

import { facetValues } from "./api.js";
import { byId, element, iconButton } from "./dom.js";
import { bodyOf } from "./facets.js";
import { number, t } from "./i18n.js";

const FIRST = 10;
const MOST = 100;
const TYPING_PAUSE_MS = 200;

const groups = new Map();

// What the last `showGroup` was called with: the groups that are to be read when an answer is there.
export const shownGroups = () => [...groups.values()].filter(({ node }) => node.isConnected);

// Returns the element of a group, the same one each time, for a query. spec:
// {name, label, chosen, set(keys): part of a query, ask(key above, or null): {facet, below}, keyOf(value, above),
//  textOf(key, value), isTree, isInside(key, other key), isOpen, extra: elements above the list}.
export function showGroup(spec, query, change) {
  const group = groups.get(spec.name) ?? make(spec);
  Object.assign(group, { spec, query, change });
  group.extra.replaceChildren(...(spec.extra ?? []));
  draw(group);
  return group.node;
}

function make({ name, isOpen }) {
  const group = { branches: new Map(), opened: new Set(), contains: "", most: FIRST, running: null };
  group.summary = element("summary", { id: `facet-${name}` });
  group.extra = element("div", {});
  group.list = element("div", {});
  group.search = element("input", { type: "search", id: `facet-search-${name}`, class: "facet-search", dir: "auto" });
  group.search.addEventListener("input", () => searchWithin(group));
  group.search.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !group.search.value) return;
    event.stopPropagation();
    group.search.value = "";
    searchWithin(group);
  });
  group.node = element(
    "details",
    { class: "facet", open: Boolean(isOpen) },
    group.summary,
    element("div", { class: "facet-body" }, group.extra, group.search, group.list),
  );
  group.node.addEventListener("toggle", () => {
    if (!byId("filters").hidden && !group.branches.size) readGroup(group);
  });
  groups.set(name, group);
  return group;
}

function searchWithin(group) {
  clearTimeout(group.typing);
  group.typing = setTimeout(() => {
    group.contains = group.search.value.trim();
    readGroup(group);
  }, TYPING_PAUSE_MS);
}

// Reads what is shown of a group, counted without what was chosen of itself.
export async function readGroup(group, { query = group.query } = {}) {
  if (!group.node.open) {
    group.branches.clear();
    return;
  }
  group.running?.abort();
  group.running = new AbortController();
  const { signal } = group.running;
  const body = bodyOf({ ...query, ...group.spec.set([]) });
  const { contains } = group;
  const read = async (above) => {
    const asked = { ...group.spec.ask(above), limit: MOST, ...(contains && { contains }) };
    return [above ?? "", await facetValues(asked, body, signal)];
  };
  try {
    const branches = await Promise.all([null, ...(contains ? [] : group.opened)].map(read));
    const [[, top]] = branches;
    // One source, one country: what is in it is what one wants to see.
    if (group.spec.isTree && !contains && top.values.length === 1 && !group.opened.size && !group.wasClosed) {
      const key = group.spec.keyOf(top.values[0], null);
      if (top.values[0].has_more) {
        group.opened.add(key);
        branches.push(await read(key));
      }
    }
    group.branches = new Map(branches);
  } catch (error) {
    if (error.name === "AbortError") return;
    group.branches.clear(); // the search itself tells what is wrong
  }
  draw(group);
}

function draw(group) {
  const { spec, branches, contains } = group;
  const focused = group.node.contains(document.activeElement) ? document.activeElement.id : null;
  const chosen = spec.chosen;
  const names = chosen.slice(0, 2).map((key) => spec.textOf(key));
  if (chosen.length > 2) names.push(`+${number(chosen.length - 2)}`);
  group.summary.replaceChildren(
    element("span", {}, spec.label),
    element("small", { dir: "auto" }, names.join(" · ")),
  );
  const top = branches.get("") ?? { values: [], left_out: 0 };
  const isLong = top.left_out > 0 || top.values.length > FIRST || contains || spec.isTree;
  group.search.hidden = !isLong || Boolean(spec.isShort);
  const inTree = new Set();
  const rows = rowsOf(group, null, inTree);
  const lost = chosen.filter((key) => !inTree.has(key));
  group.search.setAttribute("aria-label", t("findAmong", { name: spec.label }));
  group.search.placeholder = t("findAmong", { name: spec.label });
  const { most } = group;
  group.list.replaceChildren(
    contains && spec.contains ? list([containsRow(group)]) : "",
    lost.length ? list(lost.map((key) => row(group, key, null, null))) : "",
    rows.length ? list(rows.slice(0, most)) : "",
    rows.length > most ? showAll(group, rows.length) : "",
    top.left_out && rows.length <= most ? element("p", {}, t("valuesLeft", { n: top.left_out })) : "",
    branches.size && !rows.length && contains ? element("p", {}, t("noValues")) : "",
  );
  if (focused) byId(focused)?.focus({ preventScroll: true });
}

const list = (rows) => element("ul", {}, ...rows);

function showAll(group, n) {
  return element(
    "button",
    {
      type: "button",
      class: "facet-all",
      id: `facet-all-${group.spec.name}`,
      onclick: () => {
        group.most = MOST;
        draw(group);
      },
    },
    t("showAll", { n }),
  );
}

function rowsOf(group, above, inTree) {
  const { spec, branches, opened } = group;
  return (branches.get(above ?? "")?.values ?? []).map((value) => {
    const key = spec.keyOf(value, above);
    inTree.add(key);
    const isOpened = opened.has(key) && !group.contains;
    const inside = isOpened && branches.has(key) ? rowsOf(group, key, inTree) : null;
    const left = inside && branches.get(key).left_out;
    if (left) inside.push(element("li", {}, element("p", {}, t("valuesLeft", { n: left }))));
    return row(group, key, value, inside);
  });
}

function row(group, key, value, inside) {
  const { spec } = group;
  const text = spec.textOf(key, group.contains ? value : null);
  const id = `facet-${spec.name}:${key}`;
  const box = element("input", {
    type: "checkbox",
    id,
    checked: spec.chosen.includes(key),
    onchange: () => choose(group, key, box.checked),
  });
  const label = element(
    "label",
    {},
    box,
    element("span", { dir: "auto", title: text }, text),
    value ? element("small", {}, number(value.count)) : null,
  );
  return element(
    "li",
    {},
    element("div", { class: "facet-row" }, spec.isTree ? expander(group, key, value, text) : null, label),
    inside?.length ? list(inside) : null,
  );
}

function expander(group, key, value, text) {
  if (!value || group.contains || !(value.has_more || group.spec.hasMore?.(key))) {
    return element("span", { class: "facet-leaf" });
  }
  const isOpened = group.opened.has(key);
  const button = iconButton("next", t("openValue", { name: text }), async () => {
    group.opened[isOpened ? "delete" : "add"](key);
    group.wasClosed ||= isOpened;
    if (isOpened) draw(group);
    else await readGroup(group);
  }, "facet-open");
  button.id = `facet-open-${group.spec.name}:${key}`;
  button.setAttribute("aria-expanded", String(isOpened));
  return button;
}

function containsRow(group) {
  return row(group, group.contains, null, null);
}

// One that is inside another one takes its place, and the other way round: both would be the larger one.
function choose(group, key, isChosen) {
  const { spec } = group;
  const others = spec.chosen.filter(
    (other) => other !== key && !(isChosen && spec.isInside && (spec.isInside(other, key) || spec.isInside(key, other))),
  );
  group.change(spec.set(isChosen ? [...others, key] : others));
}
