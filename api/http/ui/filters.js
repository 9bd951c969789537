// The panel of filters. It offers only what the library has: no cameras, no choice of cameras. Values
// and their counts come when the panel is open (`readChoices`).

import { byId, element, fileName } from "./dom.js";
import { readFacets, withoutColumn } from "./facets.js";
import { monthName, number, percent, t } from "./i18n.js";
import { library, minRelevanceOf } from "./library.js";
import { EMPTY, OF_FILES, REJECTED, filterCount, filtersOf } from "./query.js";

const SIZES = [640, 1280, 2560, 4000];

let choices = null;

// Reads what there is to choose from and shows it, unless something is being typed there.
export async function readChoices(query, change) {
  try {
    choices = await readFacets(query);
  } catch (error) {
    if (error.name === "AbortError") return;
    choices = null; // the search itself tells what is wrong
  }
  const typed = document.activeElement?.matches("#filters input:is([type=text], [type=date])");
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
      pills("what", ["any", "image", "text"], [query.modality], ([modality]) => change({ modality }), "radio"),
      library.kinds.length > 1
        ? pills("kind", library.kinds, query.kinds, (kinds) => change({ kinds }), "checkbox", choices?.kinds)
        : null,
      year(query, change),
      month(query, change),
      day("from", query, change),
      day("to", query, change),
      choice(
        "size",
        SIZES.map((size) => [size, t("sizeMin", { n: size })]),
        query.size,
        (value) => change({ size: Number(value) }),
      ),
      library.cameras.length
        ? choice(
            "camera",
            counted(choices?.cameras ?? library.cameras.map(bare), query.camera),
            query.camera,
            (camera) => change({ camera }),
          )
        : null,
      folder(query, change),
      collection(query, change),
      ...OF_FILES.filter((name) => isOfFiles(name, query)).map((name) => ofFiles(name, query, change)),
      ...Object.entries(library.columns)
        .filter(([name]) => name in query.columns || !isOfFiles(name, query))
        .map(([name, samples]) =>
          choices?.columns[name]?.length || query.columns[name]?.startsWith("=")
            ? chosenColumn(name, query, change)
            : column(name, samples, query, change),
        ),
      relevance(query, change),
      element(
        "div",
        { class: "filter-wide" },
        toggle("group", query.group, (group) => change({ group })),
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
  );
  if (focused) byId(focused)?.focus();
  const count = byId("filters-count");
  count.hidden = !filterCount(query);
  count.textContent = number(filterCount(query));
}

const bare = (value) => ({ value });

// Pairs of value and text for `choice`; the chosen value is among them, found or not.
function counted(values, chosen, textOf = String) {
  const known = values.some(({ value }) => String(value) === chosen);
  const all = known || !chosen ? values : [...values, bare(chosen)];
  return all.map(({ value, count }) => [value, withCount(textOf(value), count)]);
}

const withCount = (name, n) => (n === undefined ? name : t("withCount", { name, n }));

const lastDay = (month) => {
  const [year, number] = month.split("-").map(Number);
  return `${month}-${new Date(Date.UTC(year, number, 0)).getUTCDate()}`;
};
const isMonth = ({ from, to }) => from.endsWith("-01") && to === lastDay(from.slice(0, 7));
const isYear = ({ from, to }) => from.endsWith("-01-01") && to === `${from.slice(0, 4)}-12-31`;
const yearOf = (query) => (isYear(query) || isMonth(query) ? query.from.slice(0, 4) : "");

function year(query, change) {
  if (!choices?.years.length) return null;
  return choice("year", counted(choices.years, yearOf(query)), yearOf(query), (value) =>
    change(value ? { from: `${value}-01-01`, to: `${value}-12-31` } : { from: "", to: "" }),
  );
}

function month(query, change) {
  const of = yearOf(query);
  if (!of || !choices) return null;
  const chosen = isMonth(query) ? query.from.slice(0, 7) : "";
  const months = choices.months.filter(({ value }) => value.startsWith(of)).reverse();
  return choice("month", counted(months, chosen, monthName), chosen, (value) =>
    change(
      value
        ? { from: `${value}-01`, to: lastDay(value) }
        : { from: `${of}-01-01`, to: `${of}-12-31` },
    ),
  );
}

function folder(query, change) {
  const folders = choices?.folders ?? library.sources.map(bare);
  if (folders.length < 2 && !query.source) return null;
  const paths = folders.map(({ value }) => value);
  const depth = (path) => paths.filter((above) => path.startsWith(`${above}/`)).length;
  const indented = (path) => "\u2003".repeat(depth(path)) + fileName(path);
  return choice("source", counted(folders, query.source, indented), query.source, (source) =>
    change({ source }),
  );
}

function collection(query, change) {
  const found = choices?.collections ?? [];
  if (!found.length && !query.collection) return null;
  return choice("collection", counted(found, query.collection), query.collection, (name) =>
    change({ collection: name }),
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
  return Boolean(query[name]) || (values.length > 0 && values.every(isUsual));
}

function ofFiles(name, query, change) {
  const chosen = query[name];
  const set = (value) => change({ [name]: value });
  const found = choices ? choices.columns[name] : library.columns[name]?.map(bare);
  if (name === "rating") return choice(name, stars(found ?? [], chosen), chosen, set);
  // Of very many values, none are counted.
  if (!found?.length && !chosen) return typed(name, t(name), library.columns[name], chosen, set);
  return choice(name, counted(found ?? [], chosen), chosen, set);
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

function chosenColumn(name, query, change) {
  const chosen = query.columns[name] ?? "";
  const values = (choices?.columns[name] ?? []).map(({ value, count }) => ({ value: `=${value}`, count }));
  return choice(
    `column-${name}`,
    counted(values, chosen, (value) => value.replace(/^=/, "")),
    chosen,
    (value) => change({ columns: setColumn(query.columns, name, value) }),
    name,
  );
}

const setColumn = (columns, name, value) =>
  value ? { ...columns, [name]: value } : withoutColumn(columns, name);

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

function column(name, samples, query, change) {
  return typed(name, name, samples, query.columns[name] ?? "", (value) =>
    change({ columns: setColumn(query.columns, name, value) }),
  );
}

function typed(name, label, samples, value, set) {
  const input = element("input", {
    type: "text",
    id: `column-${name}`,
    value,
    list: `samples-${name}`,
    onchange: () => set(input.value.trim()),
  });
  const known = element(
    "datalist",
    { id: `samples-${name}` },
    ...samples.map((sample) => element("option", { value: String(sample) })),
  );
  return element("div", {}, field(label, input), known);
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

function toggle(name, on, choose) {
  const box = element("input", {
    type: "checkbox",
    role: "switch",
    id: `toggle-${name}`,
    checked: on,
    onchange: () => choose(box.checked),
  });
  return element("label", { class: "switch" }, box, element("span", {}, t(name)));
}
