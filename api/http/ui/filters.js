// The panel of filters. It offers only what the library has: no cameras, no choice of cameras. Values
// and their counts come when the panel is open (`readChoices`).

import { byId, element } from "./dom.js";
import { readGroup, showGroup, shownGroups } from "./facet-group.js";
import * as specs from "./facet-specs.js";
import { readFacets } from "./facets.js";
import { number, percent, t } from "./i18n.js";
import { library, minRelevanceOf } from "./library.js";
import { EMPTY, OF_FILES, REJECTED, filterCount, filtersOf, several } from "./query.js";

const SIZES = [640, 1280, 2560, 4000];

let choices = null;
let counted = null; // the query that they are of

// Reads what there is to choose from and shows it, unless something is being typed there.
export async function readChoices(query, change) {
  for (const group of shownGroups()) readGroup(group, { query });
  try {
    choices = await readFacets(query);
    counted = query;
  } catch (error) {
    if (error.name === "AbortError") return;
    choices = null; // the search itself tells what is wrong
  }
  const typed = document.activeElement?.matches("#filters input:is([type=search], [type=number], [type=date])");
  if (!typed) showFilters(query, change);
}

// `change(part of a query)` is called when a filter is.
export function showFilters(query, change) {
  const panel = byId("filters");
  const focused = panel.contains(document.activeElement) ? document.activeElement.id : null;
  panel.replaceChildren(
    element(
      "div",
      { class: "filter-grid" },
      pills("what", modalities(query), [query.modality], ([modality]) => change({ modality }), "radio"),
      library.kinds.length > 1
        ? pills("kind", library.kinds, query.kinds, (kinds) => change({ kinds }), "checkbox", choices?.kinds)
        : null,
      isOfFiles("rating", query) ? rating(query, change) : null,
      element("div", { class: "facets" }, ...facetSpecs(query, change).map((spec) => showGroup(spec, query, change))),
      choice(
        "size",
        SIZES.map((size) => [size, t("sizeMin", { n: size })]),
        query.size,
        (value) => change({ size: Number(value) }),
      ),
      collection(query, change),
      relevance(query, change),
      element(
        "div",
        { class: "filter-wide" },
        toggle("group", query.group, (group) => change({ group })),
        choices?.withText || query.hasText
          ? toggle("hasText", query.hasText, (hasText) => change({ hasText }), withCount(t("hasText"), choices?.withText))
          : null,
        toggle("rerank", query.rerank, (rerank) => change({ rerank })),
        filterCount(query)
          ? element(
              "button",
              { type: "button", class: "button", id: "reset", onclick: () => change(filtersOf(EMPTY)) },
              t("reset"),
            )
          : null,
      ),
    ),
    element("div", { class: "filter-done" }, done(query)),
  );
  if (focused) byId(focused)?.focus();
  const count = byId("filters-count");
  count.hidden = !filterCount(query);
  count.textContent = number(filterCount(query));
}

const modalities = ({ modality }) =>
  ["any", "image", library.hasSounds || modality === "audio" ? "audio" : null, "text"].filter(Boolean);

function facetSpecs(query, change) {
  const days = element("div", { class: "facet-days" }, day("from", query, change), day("to", query, change));
  return [
    { ...specs.dates(query), isOpen: true, extra: [days] },
    choices?.hasPlaces || several(query.places).length ? specs.places(query) : null,
    library.sources.length || several(query.source).length ? specs.folders(query) : null,
    library.cameras.length || several(query.camera).length ? specs.cameras(query) : null,
    ...OF_FILES.filter((name) => name !== "rating" && isOfFiles(name, query)).map((name) => specs.ofFiles(name, query)),
    ...Object.entries(library.columns)
      .filter(([name]) => name in query.columns || name in query.ranges || !isOfFiles(name, query))
      .map(([name, samples]) => columnSpec(name, samples, query, change)),
  ].filter(Boolean);
}

function columnSpec(name, samples, query, change) {
  // Of a CSV file, numbers are texts.
  const spells = (value) => typeof value !== "boolean" && String(value).trim() && Number.isFinite(Number(value));
  const isNumber = samples.length > 0 && samples.every(spells);
  const spec = specs.column(name, query);
  return isNumber || name in query.ranges ? { ...spec, extra: [range(name, query, change)] } : spec;
}

// Closes the panel, and tells what is behind it.
function done(query) {
  const isCounted = choices && counted === query;
  const more = isCounted && choices.isPartial ? "More" : "";
  return element(
    "button",
    { type: "button", class: "button primary", id: "filters-done", onclick: () => byId("filters-button").click() },
    isCounted ? t(library.hasSounds ? `showResults${more}` : `showCounted${more}`, { n: choices.total }) : t("done"),
  );
}

const bare = (value) => ({ value });

const withCount = (name, n) => (n === undefined ? name : t("withCount", { name, n }));

function collection(query, change) {
  const found = choices?.collections ?? [];
  if (!found.length && !query.collection) return null;
  const isKnown = !query.collection || found.some(({ value }) => value === query.collection);
  const all = isKnown ? found : [...found, bare(query.collection)];
  return choice(
    "collection",
    all.map(({ value, count }) => [value, withCount(value, count)]),
    query.collection,
    (name) => change({ collection: name }),
  );
}

// Whether a column says what files say of themselves. One of a table may be of the same name.
function isOfFiles(name, query) {
  if (!OF_FILES.includes(name)) return false;
  const values = [...(library.columns[name] ?? []), ...(choices?.columns[name] ?? []).map(({ value }) => value)];
  const isUsual =
    name === "rating"
      ? (value) => typeof value === "number" && value >= -1 && value <= 5
      : (value) => typeof value === "string";
  return several(query[name]).length > 0 || (values.length > 0 && values.every(isUsual));
}

function rating(query, change) {
  const found = choices ? choices.columns.rating : library.columns.rating?.map(bare);
  return choice("rating", stars(found ?? [], query.rating), query.rating, (value) => change({ rating: value }));
}

// Pairs for `choice`: at least so many stars, or rejected.
function stars(found, chosen) {
  const sum = (of) => of.reduce((total, { count }) => total + count, 0);
  const pairs = [5, 4, 3, 2, 1].map((n) => [String(n), t("starsMin", { n }), found.filter(({ value }) => value >= n)]);
  pairs.push([REJECTED, t("rejected"), found.filter(({ value }) => value === -1)]);
  return pairs
    .filter(([value, , of]) => of.length || value === chosen)
    .map(([value, name, of]) => [value, withCount(name, choices ? sum(of) : undefined)]);
}

function pills(name, values, chosen, choose, type, counts = null) {
  const countOf = (value) => counts && (counts.find((found) => found.value === value)?.count ?? 0);
  const read = () =>
    choose([...group.querySelectorAll("input")].filter((box) => box.checked).map((box) => box.value));
  const group = element(
    "fieldset",
    {},
    element("legend", {}, t(name)),
    element(
      "div",
      { class: "options" },
      ...values.map((value) =>
        element(
          "label",
          {},
          element("input", {
            type,
            id: `${name}-${value}`,
            name,
            value,
            checked: chosen.includes(value),
            onchange: read,
          }),
          element("span", {}, withCount(t(`${name}_${value}`), countOf(value) ?? undefined)),
        ),
      ),
    ),
  );
  return group;
}

function field(label, control, ...more) {
  return element("label", { class: "field" }, element("span", {}, label, ...more), control);
}

function choice(name, pairs, chosen, choose, label = t(name)) {
  const options = [["", t("any")], ...pairs].map(([value, text]) =>
    element("option", { value: String(value), selected: String(value) === String(chosen || "") }, text),
  );
  const select = element("select", { id: `choose-${name}`, onchange: () => choose(select.value) }, ...options);
  return field(label, select);
}

function day(name, query, change) {
  const bound = name === "from" ? { max: query.to } : { min: query.from };
  const input = element("input", { type: "date", id: `day-${name}`, value: query[name], ...bound });
  input.addEventListener("change", () => change({ [name]: input.value }));
  return field(t(name), input);
}

// From one number to another, of a column of numbers.
function range(name, query, change) {
  const bounds = query.ranges[name] ?? {};
  const bound = (which) => {
    const input = element("input", {
      type: "number",
      step: "any",
      id: `range-${which}-${name}`,
      value: String(bounds[which] ?? ""),
      onchange: () => {
        const { [which]: _old, ...others } = bounds;
        const chosen = input.value === "" ? others : { ...others, [which]: Number(input.value) };
        const { [name]: _before, ...ranges } = query.ranges;
        change({ ranges: Object.keys(chosen).length ? { ...ranges, [name]: chosen } : ranges });
      },
    });
    return field(t(which === "min" ? "atLeast" : "atMost"), input);
  };
  return element("div", { class: "facet-days" }, bound("min"), bound("max"));
}

function relevance(query, change) {
  const shown = element("output", {});
  const least = minRelevanceOf(query);
  const input = element("input", {
    type: "range",
    id: "relevance",
    min: "0",
    max: "0.95",
    step: "0.05",
    value: String(least === "auto" ? 0 : least),
    oninput: () => tell(Number(input.value)),
    onchange: () => change({ min: Number(input.value) }),
  });
  const tell = (value) => {
    shown.textContent = value === "auto" ? t("automatic") : percent(value);
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  tell(least);
  return field(t("relevance"), input, " ", shown);
}

function toggle(name, on, choose, label = t(name)) {
  const box = element("input", {
    type: "checkbox",
    role: "switch",
    id: `toggle-${name}`,
    checked: on,
    onchange: () => choose(box.checked),
  });
  return element("label", { class: "switch" }, box, element("span", {}, label));
}
