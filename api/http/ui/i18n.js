// The language of the page, and its texts, numbers and dates in it.

import english from "./languages/en.js";
import { local } from "./storage.js";

// The server writes the tags of all files of languages into the page.
export const LANGUAGES = document.documentElement.dataset.languages.split(" ");
const WRITTEN_FROM_RIGHT = new Set(["Adlm", "Arab", "Hebr", "Nkoo", "Rohg", "Syrc", "Thaa"]);
const isSame = (tag, other) => tag.split("-")[0] === other.split("-")[0];
const scriptOf = (tag) => new Intl.Locale(tag).maximize().script;

let language = "en";
let texts = english;
await readTexts(chosenLanguage());

// The language that was chosen here, or the first of the browser's that the page has.
function chosenLanguage() {
  for (const tag of [local.get("language"), ...navigator.languages]) {
    const same = LANGUAGES.filter((name) => tag && isSame(name, tag));
    const found =
      same.find((name) => name.toLowerCase() === tag.toLowerCase()) ??
      same.find((name) => scriptOf(name) === scriptOf(tag)) ??
      same[0];
    if (found) return found;
  }
  return "en";
}

export async function textsOf(tag) {
  return tag === "en" ? english : { ...english, ...(await import(`./languages/${tag}.js`)).default };
}

async function readTexts(tag) {
  texts = await textsOf(tag);
  language = tag;
}

export const languageOfPage = () => language;

// As it calls itself, or in another language.
export const languageName = (tag, within = tag) => new Intl.DisplayNames([within], { type: "language" }).of(tag);

export async function switchLanguage(tag) {
  await readTexts(tag);
  local.set("language", tag);
}

// With the region of the reader, where it is one of the language.
export function locale() {
  const isOurs = (tag) => isSame(tag, language) && scriptOf(tag) === scriptOf(language);
  return navigator.languages.find(isOurs) ?? language;
}

export function t(key, values = {}) {
  let text = texts[key];
  if (typeof text === "object") {
    text = text[new Intl.PluralRules(language).select(values.n)] ?? text.other;
  }
  return text.replace(/\{(\w+)\}/g, (_, name) =>
    typeof values[name] === "number" ? number(values[name]) : values[name],
  );
}

export function number(value, options) {
  return new Intl.NumberFormat(locale(), options).format(value);
}

// Names one after the other, as the language separates them.
export const listed = (values) => values.join(t("listSeparator"));

export function percent(share) {
  return number(share, { style: "percent" });
}

// What the camera's clock showed has no time zone: it is shown as it is, wherever the reader is.
export const date = (local) => spelled(local, { dateStyle: "long", timeStyle: "short" });

// Month and year, of 2019-05. Made once: a formatter takes long to make.
const months = new Map();
export function monthOf(month) {
  const name = `${locale()} ${month}`;
  if (!months.has(name)) months.set(name, spelled(`${month}-01T00:00:00`, { year: "numeric", month: "long" }));
  return months.get(name);
}

function spelled(local, format) {
  const formatter = new Intl.DateTimeFormat(locale(), { ...format, timeZone: "UTC" });
  return formatter.format(new Date(`${local}Z`));
}

// Of 2019-05-31.
export const day = (date) => spelled(`${date}T00:00:00`, { dateStyle: "medium" });

export function clock(seconds) {
  const whole = Math.floor(seconds);
  const two = (value) => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

export function fileSize(bytes) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
  const step = Math.min(3, bytes ? Math.floor(Math.log10(bytes) / 3) : 0);
  const digits = step ? 1 : 0;
  return number(bytes / 1000 ** step, { style: "unit", unit: units[step], maximumFractionDigits: digits });
}

export function translate(root = document) {
  document.documentElement.lang = locale();
  document.documentElement.dir = WRITTEN_FROM_RIGHT.has(scriptOf(language)) ? "rtl" : "ltr";
  for (const node of root.querySelectorAll("[data-text]")) node.textContent = t(node.dataset.text);
  for (const node of root.querySelectorAll("[data-label]")) {
    node.setAttribute("aria-label", t(node.dataset.label));
    if (node.matches("button")) node.title = t(node.dataset.label);
  }
  for (const node of root.querySelectorAll("[data-placeholder]")) {
    node.placeholder = t(node.dataset.placeholder);
  }
}
