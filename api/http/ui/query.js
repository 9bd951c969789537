// The query as one plain object, and its conversion to and from the URL of the page and to a request.
// `things` are pictures, sounds and items besides the text: {type, id, weight}, weight 1 or -1.

import { fileBase64 } from "./query-files.js";

export const EMPTY = Object.freeze({
  text: "",
  things: [],
  modality: "any",
  kinds: [],
  from: "",
  to: "",
  size: 0,
  dates: [],
  places: [],
  camera: [],
  source: [],
  rating: "",
  label: [],
  keyword: [],
  person: [],
  collection: "",
  hidden: "",
  hasText: false,
  columns: {},
  ranges: {},
  literal: [],
  near: "",
  min: null,
  group: false,
  rerank: true,
  sort: "relevance",
});

// What files say of themselves: columns that have filters of their own.
export const OF_FILES = ["rating", "person", "keyword", "label"];

export const REJECTED = "-1";

export const SORTS = ["relevance", "date", "date-asc", "name"];

const PLAIN = {
  text: "q",
  near: "near",
  from: "from",
  to: "to",
  rating: "rating",
  collection: "collection",
  hidden: "hidden",
};
// Filters of several values, of which one is enough: their names in the address, and what one of them is for
// the service. Dates are years and months; places are names from the country on, joined by `INSIDE`.
const SEVERAL = {
  dates: ["date", (date) => ({ taken_at: { since: date, before: dateAfter(date) } })],
  places: ["place", (place) => allOf(place.split(INSIDE).map((name) => ({ place: name })))],
  camera: ["camera", (name) => ({ camera_name: name })],
  source: ["source", (path) => ({ source: path })],
  person: ["person", (name) => ({ person: name })],
  keyword: ["keyword", (name) => ({ keyword: name })],
  label: ["label", (name) => ({ label: name })],
};
export const INSIDE = ">";

// A filter of several values may be given as one text.
export const several = (values) => [values].flat().filter(Boolean);

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
  query.ranges = {};
  query.literal = given.getAll("literal");
  for (const [field, [name]] of Object.entries(SEVERAL)) query[field] = given.getAll(name);
  query.dates = query.dates.filter((date) => /^\d{4}(-(0[1-9]|1[0-2]))?$/.test(date));
  for (const [field, name] of Object.entries(PLAIN)) query[field] = given.get(name) ?? "";
  for (const [name, value] of given) {
    const thing = { like: "item", picture: "picture", sound: "sound" }[name];
    if (thing) query.things.push(readThing(thing, value));
    const [what, column] = [name.slice(0, name.indexOf(".")), name.slice(name.indexOf(".") + 1)];
    if (what === "column") query.columns[column] = [...several(query.columns[column]), value];
    const isBound = ["min", "max"].includes(what) && value.trim() && Number.isFinite(Number(value));
    if (isBound) query.ranges[column] = { ...query.ranges[column], [what]: Number(value) };
  }
  if (["image", "audio", "text"].includes(given.get("what"))) query.modality = given.get("what");
  if (!/^(-1|[1-5])$/.test(query.rating)) query.rating = "";
  if (!boxAround(query.near)) query.near = "";
  query.size = Number(given.get("size")) || 0;
  if (given.has("min")) query.min = Math.min(1, Math.max(0, Number(given.get("min")) || 0));
  query.group = given.has("group");
  query.hasText = given.has("text");
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
    given.append(type === "item" ? "like" : type, weight < 0 ? `-${id}` : id);
  }
  if (query.modality !== "any") given.set("what", query.modality);
  for (const kind of query.kinds) given.append("kind", kind);
  for (const words of query.literal) given.append("literal", words);
  if (query.size) given.set("size", query.size);
  for (const [field, [name]] of Object.entries(SEVERAL)) {
    for (const value of several(query[field])) given.append(name, value);
  }
  for (const [name, values] of Object.entries(query.columns)) {
    for (const value of several(values)) given.append(`column.${name}`, value);
  }
  for (const [name, bounds] of Object.entries(query.ranges)) {
    for (const [bound, value] of Object.entries(bounds)) given.set(`${bound}.${name}`, value);
  }
  if (query.min !== null) given.set("min", query.min);
  if (query.group) given.set("group", "1");
  if (query.hasText) given.set("text", "1");
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
    else if (fileBase64(id)) parts.push({ [type === "sound" ? "audio" : "image"]: fileBase64(id), weight });
  }
  return parts;
}

export const lacksFile = (query) => query.things.some(({ type, id }) => type !== "item" && !fileBase64(id));

// Days in the wrong order, for which the service has an error.
export const hasNoDay = ({ from, to }) => Boolean(from && to && from > to);

export const isByDate = (query) => query.sort.startsWith("date");
export const isSorted = (query) => query.sort !== "relevance";

// The filter for the service, or null. Days are those of the camera's clock: they have no time zone.
export function whereOf(query) {
  const where = {};
  if (query.kinds.length) where.kind = query.kinds;
  if (query.from || query.to) {
    where.taken_at = {};
    if (query.from) where.taken_at.since = `${query.from}T00:00:00`;
    if (query.to) where.taken_at.before = dayAfter(query.to);
  }
  if (query.collection) where.collection = query.collection;
  if (query.hidden) where.hidden = true;
  if (query.rating) where.rating = query.rating === REJECTED ? { max: -1 } : { min: Number(query.rating) };
  if (query.hasText) where.has_text = true;
  if (query.near) where.gps = boxAround(query.near);
  const all = Object.keys(where).length ? [where] : [];
  if (query.size) all.push({ or: [{ width: { min: query.size } }, { height: { min: query.size } }] });
  for (const [field, [, test]] of Object.entries(SEVERAL)) all.push(...anyOf(several(query[field]).map(test)));
  for (const [name, values] of Object.entries(query.columns)) {
    all.push(...anyOf(several(values).map((value) => ({ columns: { [name]: columnTest(value) } }))));
  }
  for (const [name, bounds] of Object.entries(query.ranges)) all.push({ columns: { [name]: bounds } });
  return all.length ? allOf(all) : null;
}

const anyOf = (tests) => (tests.length > 1 ? [{ or: tests }] : tests);

// Tests of different fields are one; others stand beside each other.
function allOf(tests) {
  const fields = tests.flatMap(Object.keys);
  return new Set(fields).size === fields.length ? Object.assign({}, ...tests) : { and: tests };
}

// The year after a year, the month after a month.
function dateAfter(date) {
  const [year, month] = date.split("-").map(Number);
  const pad = (number, digits) => String(number).padStart(digits, "0");
  if (!month) return pad(year + 1, 4);
  return month === 12 ? `${pad(year + 1, 4)}-01` : `${pad(year, 4)}-${pad(month + 1, 2)}`;
}

// What was taken at most so many km north, south, east or west of a place, in degrees.
export const nearOf = (latitude, longitude, km) =>
  [latitude, longitude].map((degrees) => Number(degrees.toFixed(5))).concat(km).join(",");

export function readNear(near) {
  const [latitude, longitude, km, ...more] = near.split(",").map((value) => (value.trim() ? Number(value) : NaN));
  const isPlace = Math.abs(latitude) <= 90 && Math.abs(longitude) <= 180 && km > 0 && km <= 20_000;
  return isPlace && !more.length ? { latitude, longitude, km } : null;
}

const KM_OF_DEGREE = 111.32;

function boxAround(near) {
  const place = readNear(near);
  if (!place) return null;
  const { latitude, longitude, km } = place;
  const high = km / KM_OF_DEGREE;
  const wide = high / Math.max(1e-6, Math.cos((latitude * Math.PI) / 180));
  const around = (degrees) => ((degrees + 540) % 360) - 180;
  return {
    south: Math.max(-90, latitude - high),
    north: Math.min(90, latitude + high),
    west: wide >= 180 ? -180 : around(longitude - wide),
    east: wide >= 180 ? 180 : around(longitude + wide),
  };
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
  const plain = ["from", "to", "size", "near", "group", "rating", "collection", "hidden", "hasText"];
  return (
    plain.filter((field) => query[field]).length +
    Object.keys(SEVERAL).filter((field) => several(query[field]).length).length +
    Number(query.kinds.length > 0) +
    new Set([...Object.keys(query.columns), ...Object.keys(query.ranges)]).size +
    Number(query.min !== null) +
    Number(!query.rerank) +
    Number(query.modality !== "any")
  );
}
