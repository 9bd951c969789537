// The query as one plain object, and its conversion to and from the URL of the page and to a request.
// `things` are images and items besides the text: {type, id, weight}, weight 1 or -1.

import { pictureBase64 } from "./query-pictures.js";

export const EMPTY = Object.freeze({
  text: "",
  things: [],
  modality: "any",
  kinds: [],
  from: "",
  to: "",
  size: 0,
  camera: "",
  source: "",
  rating: "",
  label: "",
  keyword: "",
  person: "",
  collection: "",
  hidden: "",
  columns: {},
  literal: [],
  min: null,
  group: false,
  rerank: true,
  sort: "relevance",
});

// What files say of themselves: columns that have filters of their own.
export const OF_FILES = ["rating", "person", "keyword", "label"];

export const REJECTED = "-1";

export const SORTS = ["relevance", "date", "date-asc"];

const PLAIN = {
  text: "q",
  from: "from",
  to: "to",
  camera: "camera",
  source: "source",
  collection: "collection",
  hidden: "hidden",
  ...Object.fromEntries(OF_FILES.map((name) => [name, name])),
};
const MINUS = /(^|\s)[-−－](?:"([^"]+)"|([^\s"−－-]\S*))/gu;

// Split a text into positive words, and negative ones after a minus.
export function readText(text) {
  const minus = [];
  const plus = text.replace(MINUS, (_, before, quoted, word) => {
    minus.push(quoted ?? word);
    return before;
  });
  return { plus: plus.replace(/(^|\s)[-−－](?=\s|$)/gu, "$1").replace(/\s+/gu, " ").trim(), minus };
}

// The words that were not to be understood and are still in a text.
export const literalIn = (text, literal) => literal.filter((words) => text.includes(words));

export function withoutMinusWord(text, word) {
  return text
    .replace(MINUS, (whole, before, quoted, plain) => ((quoted ?? plain) === word ? before : whole))
    .replace(/\s+/gu, " ")
    .trim();
}

export function fromAddress(address) {
  const given = new URLSearchParams(address);
  const query = { ...EMPTY, things: [], columns: {}, kinds: given.getAll("kind") };
  query.literal = given.getAll("literal");
  for (const [field, name] of Object.entries(PLAIN)) query[field] = given.get(name) ?? "";
  for (const [name, value] of given) {
    const thing = { like: "item", picture: "picture" }[name];
    if (thing) query.things.push(readThing(thing, value));
    if (name.startsWith("column.")) query.columns[name.slice(7)] = value;
  }
  if (["image", "text"].includes(given.get("what"))) query.modality = given.get("what");
  if (!/^(-1|[1-5])$/.test(query.rating)) query.rating = "";
  query.size = Number(given.get("size")) || 0;
  if (given.has("min")) query.min = Math.min(1, Math.max(0, Number(given.get("min")) || 0));
  query.group = given.has("group");
  query.rerank = given.get("rerank") !== "none";
  if (SORTS.includes(given.get("sort"))) query.sort = given.get("sort");
  return query;
}

function readThing(type, value) {
  const weight = value.startsWith("-") ? -1 : 1;
  const name = value.replace(/^-/, "");
  return { type, id: type === "item" ? Number(name) : name, weight };
}

export function toAddress(query, item = null) {
  const given = new URLSearchParams();
  for (const [field, name] of Object.entries(PLAIN)) {
    if (query[field]) given.set(name, query[field]);
  }
  for (const { type, id, weight } of query.things) {
    given.append(type === "item" ? "like" : "picture", weight < 0 ? `-${id}` : id);
  }
  if (query.modality !== "any") given.set("what", query.modality);
  for (const kind of query.kinds) given.append("kind", kind);
  for (const words of query.literal) given.append("literal", words);
  if (query.size) given.set("size", query.size);
  for (const [name, value] of Object.entries(query.columns)) given.set(`column.${name}`, value);
  if (query.min !== null) given.set("min", query.min);
  if (query.group) given.set("group", "1");
  if (!query.rerank) given.set("rerank", "none");
  if (query.sort !== "relevance") given.set("sort", query.sort);
  if (item !== null) given.set("item", item);
  const address = given.toString();
  return address ? `./?${address}` : "./";
}

export const itemOfAddress = (address) => Number(new URLSearchParams(address).get("item")) || null;

// A query without what is searched for and its order: its filters.
export function filtersOf(query) {
  const { text: _text, things: _things, sort: _sort, literal: _literal, ...filters } = query;
  return filters;
}

// The query parts; without any, the page shows the library.
export function partsOf(query) {
  const { plus, minus } = readText(query.text);
  const parts = plus ? [{ text: plus }] : [];
  parts.push(...minus.map((text) => ({ text, weight: -1 })));
  for (const { type, id, weight } of query.things) {
    if (type === "item") parts.push({ item: id, weight });
    else if (pictureBase64(id)) parts.push({ image: pictureBase64(id), weight });
  }
  return parts;
}

export const lacksPicture = (query) =>
  query.things.some(({ type, id }) => type === "picture" && !pictureBase64(id));

// Days in the wrong order, for which the service has an error.
export const hasNoDay = ({ from, to }) => Boolean(from && to && from > to);

export const isByDate = (query) => query.sort !== "relevance";

// The filter for the service, or null. Days are those of the camera's clock: they have no time zone.
export function whereOf(query) {
  const where = {};
  if (query.kinds.length) where.kind = query.kinds;
  if (query.from || query.to) {
    where.taken_at = {};
    if (query.from) where.taken_at.since = `${query.from}T00:00:00`;
    if (query.to) where.taken_at.before = dayAfter(query.to);
  }
  if (query.size) {
    where.or = [{ width: { min: query.size } }, { height: { min: query.size } }];
  }
  if (query.camera) where.camera = query.camera;
  if (query.source) where.source = query.source;
  if (query.collection) where.collection = query.collection;
  if (query.hidden) where.hidden = true;
  for (const name of ["person", "keyword", "label"]) if (query[name]) where[name] = query[name];
  if (query.rating) where.rating = query.rating === REJECTED ? { max: -1 } : { min: Number(query.rating) };
  const columns = Object.entries(query.columns);
  if (columns.length) {
    where.columns = Object.fromEntries(columns.map(([name, value]) => [name, columnTest(value)]));
  }
  return Object.keys(where).length ? where : null;
}

// A value after an equals sign was chosen from a list; any other was typed.
const columnTest = (value) =>
  value.startsWith("=") ? { equals: value.slice(1) } : { contains: value };

function dayAfter(day) {
  const next = new Date(`${day}T00:00:00Z`);
  next.setUTCDate(next.getUTCDate() + 1);
  return next.toISOString().replace("Z", "");
}

export function filterCount(query) {
  const plain = ["from", "to", "size", "camera", "source", "collection", "hidden", "group", ...OF_FILES];
  return (
    plain.filter((field) => query[field]).length +
    Number(query.kinds.length > 0) +
    Object.keys(query.columns).length +
    Number(query.min !== null) +
    Number(!query.rerank) +
    Number(query.modality !== "any")
  );
}
