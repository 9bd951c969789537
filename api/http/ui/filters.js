// The panel of filters. It offers only what the library has: no cameras, no choice of cameras.

import { byId, element, fileName } from "./dom.js";
import { number, percent, t } from "./i18n.js";
import { library, minRelevanceOf } from "./library.js";
import { EMPTY, filterCount } from "./query.js";

const SIZES = [640, 1280, 2560, 4000];

// `change(part of a query)` is called when a filter is.
export function showFilters(query, change) {
  const panel = byId("filters");
  const focused = panel.contains(document.activeElement) ? document.activeElement.id : null;
  panel.replaceChildren(
    element(
      "div",
      { class: "filter-grid" },
      pills("what", ["image", "text"], [query.modality], ([modality]) => change({ modality }), "radio"),
      library.kinds.length > 1
        ? pills("kind", library.kinds, query.kinds, (kinds) => change({ kinds }), "checkbox")
        : null,
      choice(
        "size",
        SIZES.map((size) => [size, t("sizeMin", { n: size })]),
        query.size,
        (value) => change({ size: Number(value) }),
      ),
      day("from", query, change),
      day("to", query, change),
      library.cameras.length
        ? choice("camera", library.cameras.map((name) => [name, name]), query.camera, (camera) =>
            change({ camera }),
          )
        : null,
      library.sources.length > 1
        ? choice("source", library.sources.map((path) => [path, fileName(path)]), query.source, (source) =>
            change({ source }),
          )
        : null,
      ...Object.entries(library.columns).map(([name, samples]) =>
        column(name, samples, query, change),
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
              { type: "button", class: "button", id: "reset", onclick: () => change(unfiltered()) },
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

export function unfiltered() {
  const { text: _text, things: _things, sort: _sort, literal: _literal, ...filters } = EMPTY;
  return { ...filters, columns: {}, kinds: [] };
}

function pills(name, values, chosen, choose, type) {
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
          element("span", {}, t(`${name}_${value}`)),
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
  const set = (value) => {
    const { [name]: _old, ...others } = query.columns;
    change({ columns: value ? { ...others, [name]: value } : others });
  };
  const input = element("input", {
    type: "text",
    id: `column-${name}`,
    value: query.columns[name] ?? "",
    list: `samples-${name}`,
    onchange: () => set(input.value.trim()),
  });
  const known = element(
    "datalist",
    { id: `samples-${name}` },
    ...samples.map((sample) => element("option", { value: String(sample) })),
  );
  return element("div", {}, field(name, input), known);
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
