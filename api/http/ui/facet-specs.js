// The filters of several values: what each is called, which facet tells its values, and how they are written in
// a query.

import { fileName } from "./dom.js";
import { listed, monthOf, t } from "./i18n.js";
import { library } from "./library.js";
import { INSIDE, several } from "./query.js";

const plain = (name, query, facet) => ({
  name,
  label: t(name),
  chosen: several(query[name]),
  set: (values) => ({ [name]: values }),
  ask: () => ({ facet }),
  keyOf: ({ value }) => value,
  textOf: (key) => key,
});

export const dateText = (date) => (date.length === 4 ? date : monthOf(date));

export const dates = (query) => ({
  ...plain("dates", query),
  isTree: true,
  isShort: true,
  ask: (year) => (year ? { facet: "months", below: [year] } : { facet: "years" }),
  textOf: dateText,
  hasMore: (date) => date.length === 4,
  isInside: (date, other) => date.startsWith(`${other}-`),
});

export const placeText = (key) => key.slice(key.lastIndexOf(INSIDE) + 1);

export const places = (query) => ({
  ...plain("places", query),
  isTree: true,
  ask: (above) => ({ facet: "places", below: above ? above.split(INSIDE) : [] }),
  keyOf: ({ value, within }) => [...within, value].join(INSIDE),
  textOf: (key, value) => (value ? listed(key.split(INSIDE).reverse()) : placeText(key)),
  isInside: (place, other) => place.startsWith(`${other}${INSIDE}`),
});

// Below its source, where one looks for it among many.
export const folderText = (path, value) => {
  if (library.sources.includes(path)) return path;
  const source = value && library.sources.find((above) => path.startsWith(`${above}/`));
  return source ? path.slice(source.length + 1) : fileName(path);
};

export const folders = (query) => ({
  ...plain("source", query),
  isTree: true,
  ask: (above) => ({ facet: "folders", below: above ? [above] : [] }),
  textOf: folderText,
  isInside: (path, other) => path.startsWith(`${other.replace(/\/$/, "")}/`),
});

export const cameras = (query) => plain("camera", query, "cameras");

// Of what files say of themselves.
export const ofFiles = (name, query) => plain(name, query, `columns.${name}`);

export const columnText = (key) => (key.startsWith("=") ? key.slice(1) : t("containing", { name: key }));

// A value after an equals sign is the whole one; another one is a part.
export const column = (name, query) => ({
  name: `column-${name}`,
  label: name,
  chosen: several(query.columns[name]),
  set: (values) => {
    const { [name]: _old, ...others } = query.columns;
    return { columns: values.length ? { ...others, [name]: values } : others };
  },
  ask: () => ({ facet: `columns.${name}` }),
  keyOf: ({ value }) => `=${value}`,
  textOf: columnText,
  contains: true,
});
