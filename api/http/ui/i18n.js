// The language of the page, and its texts, numbers and dates in it.

import { local } from "./storage.js";
import { TEXTS } from "./texts.js";

const preferred = [local.get("language"), ...navigator.languages].map((tag) => tag?.split("-")[0]);
let language = preferred.find((tag) => tag in TEXTS) ?? "en";

export function locale() {
  return language === "zh" ? "zh-CN" : preferredRegion();
}

function preferredRegion() {
  return navigator.languages.find((tag) => tag.startsWith("en")) ?? "en";
}

export function switchLanguage() {
  language = language === "zh" ? "en" : "zh";
  local.set("language", language);
}

export function t(key, values = {}) {
  let text = TEXTS[language][key];
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
export const listed = (values) => values.join(language === "zh" ? "、" : ", ");

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

// Of 2019-05.
export function monthName(month) {
  const format = new Intl.DateTimeFormat(locale(), { month: "long", timeZone: "UTC" });
  return format.format(new Date(`${month}-01T00:00:00Z`));
}

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
  for (const node of root.querySelectorAll("[data-text]")) node.textContent = t(node.dataset.text);
  for (const node of root.querySelectorAll("[data-label]")) {
    node.setAttribute("aria-label", t(node.dataset.label));
    if (node.matches("button")) node.title = t(node.dataset.label);
  }
  for (const node of root.querySelectorAll("[data-placeholder]")) {
    node.placeholder = t(node.dataset.placeholder);
  }
}
