// What is asked, as one plain object; how it stands in the address of the page, and how it is put to
// the service. `things` are pictures and items besides the text: {type, id, weight}, weight 1 or -1.

import { pictureBase64 } from "./query-pictures.js";

export const EMPTY = Object.freeze({
  text: "",
  things: [],
  modality: "image",
  kinds: [],
  from: "",
  to: "",
  size: 0,
  camera: "",
  source: "",
  columns: {},
  min: null,
  group: false,
  rerank: true,
});

const PLAIN = { text: "q", from: "from", to: "to", camera: "camera", source: "source" };
const MINUS = /(^|\s)[-−－](?:"([^"]+)"|([^\s"−－-]\S*))/gu;

// The words that are wanted, and those after a minus that are not.
export function readText(text) {
  const minus = [];
  const plus = text.replace(MINUS, (_, before, quoted, word) => {
    minus.push(quoted ?? word);
    return before;
  });
  return { plus: plus.replace(/(^|\s)[-−－](?=\s|$)/gu, "$1").replace(/\s+/gu, " ").trim(), minus };
}

export function withoutMinusWord(text, word) {
  return text
    .replace(MINUS, (whole, before, quoted, plain) => ((quoted ?? plain) === word ? before : whole))
    .replace(/\s+/gu, " ")
    .trim();
}

export function fromAddress(address) {
  const given = new URLSearchParams(address);
  const question = { ...EMPTY, things: [], columns: {}, kinds: given.getAll("kind") };
  for (const [field, name] of Object.entries(PLAIN)) question[field] = given.get(name) ?? "";
  for (const [name, value] of given) {
    const thing = { like: "item", picture: "picture" }[name];
    if (thing) question.things.push(readThing(thing, value));
    if (name.startsWith("column.")) question.columns[name.slice(7)] = value;
  }
  if (given.get("what") === "text") question.modality = "text";
  question.size = Number(given.get("size")) || 0;
  if (given.has("min")) question.min = Math.min(1, Math.max(0, Number(given.get("min")) || 0));
  question.group = given.has("group");
  question.rerank = given.get("rerank") !== "none";
  return question;
}

function readThing(type, value) {
  const weight = value.startsWith("-") ? -1 : 1;
  const name = value.replace(/^-/, "");
  return { type, id: type === "item" ? Number(name) : name, weight };
}

export function toAddress(question, item = null) {
  const given = new URLSearchParams();
  for (const [field, name] of Object.entries(PLAIN)) {
    if (question[field]) given.set(name, question[field]);
  }
  for (const { type, id, weight } of question.things) {
    given.append(type === "item" ? "like" : "picture", weight < 0 ? `-${id}` : id);
  }
  if (question.modality === "text") given.set("what", "text");
  for (const kind of question.kinds) given.append("kind", kind);
  if (question.size) given.set("size", question.size);
  for (const [name, value] of Object.entries(question.columns)) given.set(`column.${name}`, value);
  if (question.min !== null) given.set("min", question.min);
  if (question.group) given.set("group", "1");
  if (!question.rerank) given.set("rerank", "none");
  if (item !== null) given.set("item", item);
  const address = given.toString();
  return address ? `/?${address}` : "/";
}

export const itemOfAddress = (address) => Number(new URLSearchParams(address).get("item")) || null;

// The parts of the query; none: nothing is asked, so the library itself is shown.
export function partsOf(question) {
  const { plus, minus } = readText(question.text);
  const parts = plus ? [{ text: plus }] : [];
  parts.push(...minus.map((text) => ({ text, weight: -1 })));
  for (const { type, id, weight } of question.things) {
    if (type === "item") parts.push({ item: id, weight });
    else if (pictureBase64(id)) parts.push({ image: pictureBase64(id), weight });
  }
  return parts;
}

export const lacksPicture = (question) =>
  question.things.some(({ type, id }) => type === "picture" && !pictureBase64(id));

// The filter, as the service takes it, or null.
export function whereOf(question) {
  const where = {};
  if (question.kinds.length) where.kind = question.kinds;
  if (question.from || question.to) {
    where.taken_at = {};
    if (question.from) where.taken_at.since = `${question.from}T00:00:00Z`;
    if (question.to) where.taken_at.before = dayAfter(question.to);
  }
  if (question.size) {
    where.or = [{ width: { min: question.size } }, { height: { min: question.size } }];
  }
  if (question.camera) where.camera = question.camera;
  if (question.source) where.source = question.source;
  const columns = Object.entries(question.columns);
  if (columns.length) {
    where.columns = Object.fromEntries(columns.map(([name, value]) => [name, { contains: value }]));
  }
  return Object.keys(where).length ? where : null;
}

function dayAfter(day) {
  const next = new Date(`${day}T00:00:00Z`);
  next.setUTCDate(next.getUTCDate() + 1);
  return next.toISOString();
}

export function filterCount(question) {
  const plain = ["from", "to", "size", "camera", "source", "group"];
  return (
    plain.filter((field) => question[field]).length +
    Number(question.kinds.length > 0) +
    Object.keys(question.columns).length +
    Number(question.min !== null) +
    Number(!question.rerank) +
    Number(question.modality === "text")
  );
}
