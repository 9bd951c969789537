// The filters that are set, each with what it is called and the part of a query that takes it away.

import { columnText, dateText, folderText, placeText } from "./facet-specs.js";
import { day, listed, number, percent, t } from "./i18n.js";
import { OF_FILES, REJECTED, several } from "./query.js";

// Returns pairs of a text and a part of a query.
export function activeFilters(query) {
  const found = [];
  const each = (field, textOf) => {
    const values = several(query[field]);
    for (const value of values) {
      found.push([textOf(value), { [field]: values.filter((other) => other !== value) }]);
    }
  };
  const named = (name) => (value) => t("filterOf", { name: t(name), value });
  if (query.modality !== "any") found.push([t(`what_${query.modality}`), { modality: "any" }]);
  each("kinds", (kind) => t(`kind_${kind}`));
  each("dates", dateText);
  if (query.from) found.push([named("from")(day(query.from)), { from: "" }]);
  if (query.to) found.push([named("to")(day(query.to)), { to: "" }]);
  each("places", placeText);
  each("source", (path) => named("source")(folderText(path)));
  each("camera", named("camera"));
  if (query.rating) {
    const text = query.rating === REJECTED ? t("rejected") : t("starsMin", { n: Number(query.rating) });
    found.push([text, { rating: "" }]);
  }
  for (const name of OF_FILES) if (name !== "rating") each(name, named(name));
  for (const [name, values] of Object.entries(query.columns)) {
    for (const value of several(values)) {
      const left = several(values).filter((other) => other !== value);
      const { [name]: _old, ...others } = query.columns;
      const text = t("filterOf", { name, value: columnText(value) });
      found.push([text, { columns: left.length ? { ...others, [name]: left } : others }]);
    }
  }
  for (const [name, { min, max }] of Object.entries(query.ranges)) {
    const { [name]: _old, ...ranges } = query.ranges;
    const bounds = [];
    if (min !== undefined) bounds.push(`≥ ${number(min)}`);
    if (max !== undefined) bounds.push(`≤ ${number(max)}`);
    found.push([t("filterOf", { name, value: listed(bounds) }), { ranges }]);
  }
  if (query.hasText) found.push([t("hasText"), { hasText: false }]);
  if (query.size) found.push([t("sizeMin", { n: query.size }), { size: 0 }]);
  if (query.min !== null) found.push([t("relevanceOf", { n: percent(query.min) }), { min: null }]);
  if (query.group) found.push([t("group"), { group: false }]);
  return found;
}
