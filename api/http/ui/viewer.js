// One picture, large, with what is known of it: a native modal dialog.

import * as api from "./api.js";
import { byId, element, fileName, iconButton } from "./dom.js";
import { ratioOf } from "./grid.js";
import { drawHeat } from "./heat.js";
import { clock, date, fileSize, listed, number, percent, t } from "./i18n.js";
import { OF_FILES } from "./query.js";
import { showThumbnail } from "./thumbnails.js";

const dialog = byId("viewer");
let shown = null;
let running = new AbortController();

// The viewer's wishes: {step(by), closed(item id), like(id), add(id)}.
let wishes = null;

export const isOpen = () => dialog.open;

export function closeViewer() {
  if (dialog.open) dialog.close();
}

export function listenToViewer(given) {
  wishes = given;
  dialog.addEventListener("close", () => {
    running.abort();
    document.body.classList.remove("still");
    dialog.replaceChildren();
    wishes.closed(shown);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.classList.contains("viewer-stage")) dialog.close();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    wishes.step(step);
  });
}

// hit: a hit or a listed item. place: {n, of, more} among the hits, or null. words: the wanted text
// of the query, "" without one.
export function openViewer(hit, place, words, explains) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  shown = hit.item_id;
  const focused = dialog.contains(document.activeElement) ? document.activeElement.dataset.name : null;
  const name = fileName(hit.path);
  dialog.setAttribute("aria-label", place ? t("viewer", { ...place, name }) : name);
  const stage = hit.modality === "text" ? chunk(hit) : picture(hit);
  const facts = element("dl", { class: "facts" });
  const looked = element("section", { class: "looked" });
  dialog.replaceChildren(
    element(
      "div",
      { class: "viewer-stage" },
      stage,
      place ? stepper("previous", -1, place.n > 1) : null,
      place ? stepper("next", 1, place.n < place.of || place.more) : null,
    ),
    element(
      "div",
      { class: "viewer-side" },
      element(
        "div",
        { class: "viewer-head" },
        element("h2", { dir: "auto" }, name),
        named("close", iconButton("close", t("close"), () => dialog.close())),
      ),
      element("p", { class: "viewer-what" }, what(hit, place)),
      hit.text && hit.modality === "image" ? element("q", { class: "viewer-passage", dir: "auto" }, hit.text) : null,
      actions(hit),
      scores(hit),
      looked,
      element("h3", {}, t("about")),
      facts,
    ),
  );
  if (!dialog.open) {
    document.body.classList.add("still");
    dialog.showModal();
  }
  (dialog.querySelector(`[data-name="${focused ?? "next"}"]:enabled`) ??
    dialog.querySelector('[data-name="close"]')).focus({ preventScroll: true });
  tellFacts(facts, hit, signal);
  if (words && explains && hit.modality === "image") offerHeat(looked, stage, hit, words, signal);
}

function named(name, node) {
  node.dataset.name = name;
  return node;
}

function what(hit, place) {
  const parts = [];
  if (place) parts.push(`${number(place.n)} / ${number(place.of)}${place.more ? "+" : ""}`);
  if (isNumber(hit.time_s)) parts.push(clock(hit.time_s));
  if (hit.page) parts.push(t("page", { n: hit.page }));
  if (hit.group?.length) parts.push(t("sameFile", { n: hit.group.length }));
  return parts.join(" · ");
}

const isNumber = (value) => typeof value === "number";

function stepper(name, step, enabled) {
  const button = iconButton(name, t(name), () => wishes.step(step), `step step-${name}`);
  button.disabled = !enabled;
  return named(name, button);
}

function chunk(hit) {
  return element("blockquote", { class: "viewer-chunk", dir: "auto" }, hit.text ?? "");
}

// The small picture, which is there already, stands in until the large one is.
function picture(hit) {
  const frame = element("figure", { class: "viewer-frame" });
  frame.style.setProperty("--ratio", ratioOf(hit).toFixed(4));
  if (hit.width) frame.style.setProperty("--most", `${Math.max(hit.width, 480)}px`);
  const small = element("img", { alt: "" });
  const large = element("img", { alt: fileName(hit.path), class: "large" });
  showThumbnail(small, hit, 320, { lazy: false });
  showThumbnail(large, hit, 1280, { lazy: false });
  const canvas = element("canvas", { hidden: true, "aria-hidden": "true" });
  frame.append(small, large, canvas, element("figcaption", {}, t("missing")));
  return frame;
}

function actions(hit) {
  const open = element(
    "a",
    { class: "button", href: api.fileUrl(hit.item_id), target: "_blank", rel: "noopener" },
    t("openFile"),
  );
  open.addEventListener("click", (event) => {
    if (!api.hasKey()) return;
    event.preventDefault();
    download(hit);
  });
  return element(
    "div",
    { class: "viewer-actions" },
    element(
      "button",
      { type: "button", class: "button primary", onclick: () => wishes.like(hit.item_id) },
      t("likeShort"),
    ),
    element(
      "button",
      { type: "button", class: "button", onclick: () => wishes.add(hit.item_id) },
      t("addToSearch"),
    ),
    open,
  );
}

// A link cannot send the key, so the file is fetched first.
async function download(hit) {
  const address = URL.createObjectURL(await api.blob(api.fileUrl(hit.item_id)));
  element("a", { href: address, download: fileName(hit.path) }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

function scores(hit) {
  const rows = [
    ["relevance", hit.relevance, (value) => percent(value)],
    ["match", hit.match, (value) => number(value, { signDisplay: "exceptZero", maximumFractionDigits: 2 })],
    ["similarity", hit.similarity, (value) => number(value, { minimumFractionDigits: 3, maximumFractionDigits: 3 })],
    ["words", hit.words, (value) => number(value, { maximumFractionDigits: 2 })],
  ].filter(([, value]) => isNumber(value));
  if (!rows.length) return null;
  const list = element("dl", { class: "scores" });
  for (const [name, value, spell] of rows) {
    list.append(
      element(
        "div",
        {},
        element("dt", {}, t(`score_${name}`), element("small", {}, t(`score_${name}_hint`))),
        element("dd", {}, spell(value)),
      ),
    );
    if (name === "relevance") {
      const bar = element("span", { class: "relevance-bar", "aria-hidden": "true" });
      bar.style.setProperty("--share", value);
      list.lastChild.append(bar);
    }
  }
  return element("section", {}, element("h3", {}, t("scores")), list);
}

async function tellFacts(list, hit, signal) {
  let told = hit;
  try {
    told = { ...hit, ...(await api.item(hit.item_id, signal)) };
  } catch (error) {
    if (error.name === "AbortError") return;
  }
  const place = isNumber(told.latitude)
    ? [placeName(told.place), coordinates(told.latitude, told.longitude)].filter(Boolean).join(" · ")
    : null;
  const dimensions = told.width ? t("pixels", { w: told.width, h: told.height }) : null;
  const size = [dimensions, told.bytes ? fileSize(told.bytes) : null].filter(Boolean).join(" · ");
  const columns = [told.columns, ...(told.annotations ?? [])].flatMap((row) => Object.entries(row ?? {}));
  const ofFiles = OF_FILES.flatMap((name) => columns.filter(([other]) => other === name));
  const facts = [
    ["taken", takenOf(told)],
    ["camera", told.camera],
    ["place", place],
    ["time", isNumber(told.time_s) ? clock(told.time_s) : null],
    ["duration", isNumber(told.duration_s) ? clock(told.duration_s) : null],
    ["page", told.page ? number(told.page) : null],
    ["size", size],
    ["description", withoutLists(told.description, told.annotations)],
    ...ofFiles.map(([name, value]) => [name, spelled(name, value)]),
    ["path", told.path],
    ["notes", told.notes?.length ? element("span", { lang: "en" }, told.notes.join("\n")) : null],
  ].map(([name, value]) => [t(`fact_${name}`), value]);
  facts.push(
    ...columns.filter(([name]) => !OF_FILES.includes(name)).map(([name, value]) => [name, String(value)]),
  );
  list.replaceChildren(
    ...facts
      .filter(([, value]) => value)
      .flatMap(([name, value]) => [element("dt", { dir: "auto" }, name), element("dd", { dir: "auto" }, value)]),
  );
}

function takenOf(told) {
  if (!told.taken_local) return null;
  const shown = date(told.taken_local);
  if (told.taken_from !== "mtime") return shown;
  return element("span", {}, `${shown} (${t("fileDate")})`, element("small", { class: "hint" }, t("fileDateHint")));
}

function spelled(name, value) {
  if (name === "rating" && value === -1) return t("rejected");
  if (name === "rating" && Number.isInteger(value) && value >= 0 && value <= 5) {
    const label = t("starsOf", { n: value });
    return element("span", { role: "img", "aria-label": label, title: label }, "★".repeat(value) + "☆".repeat(5 - value));
  }
  return Array.isArray(value) ? listed(value.map(String)) : String(value);
}

// The lines of a description that are not the keywords or persons, which are told by themselves.
function withoutLists(description, annotations) {
  const lists = (annotations ?? []).flatMap(Object.values).filter(Array.isArray).map((values) => values.join(", "));
  return description?.split("\n").filter((line) => !lists.includes(line)).join("\n");
}

// The largest city and the country, of names from the city to the country.
function placeName(place) {
  const names = place?.split("\n") ?? [];
  return [...new Set([names.at(0), names.at(-1)])].filter(Boolean).join(", ");
}

function coordinates(latitude, longitude) {
  const side = (value, positive, negative) =>
    `${number(Math.abs(value), { maximumFractionDigits: 5 })}° ${value < 0 ? negative : positive}`;
  return `${side(latitude, "N", "S")}, ${side(longitude, "E", "W")}`;
}

function offerHeat(section, frame, hit, words, signal) {
  const button = element("button", { type: "button", class: "button", "aria-pressed": "false" }, t("where"));
  const detail = element("div", {});
  const canvas = frame.querySelector("canvas");
  let explanation = null;
  button.addEventListener("click", async () => {
    const on = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", String(on));
    canvas.hidden = !on;
    detail.hidden = !on;
    frame.classList.toggle("looked-at", on);
    if (!on || explanation) return;
    detail.replaceChildren(element("p", { class: "hint" }, t("loading")));
    try {
      explanation = await api.explain(words, hit.item_id, signal);
      tellWords(detail, canvas, explanation, hit);
    } catch (error) {
      if (error.name === "AbortError") return;
      canvas.hidden = true;
      frame.classList.remove("looked-at");
      detail.replaceChildren(element("p", { class: "hint" }, t("whereNot")));
    }
  });
  section.replaceChildren(button, detail);
}

function tellWords(place, canvas, explanation, hit) {
  const [width, height] = [hit.width ?? explanation.view[2], hit.height ?? explanation.view[3]];
  const most = Math.max(...explanation.words.map((word) => Math.abs(word.contribution)), 1e-9);
  const choose = (chosen, heat) => {
    for (const button of list.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button === chosen));
    }
    drawHeat(canvas, heat, explanation.view, width, height);
  };
  const all = element(
    "button",
    { type: "button", class: "word", "aria-pressed": "true", onclick: () => choose(all, explanation.heat) },
    t("whereAll"),
  );
  const buttons = explanation.words.map((word) => {
    const spelled = number(word.contribution, {
      signDisplay: "exceptZero",
      minimumFractionDigits: 2,
      maximumFractionDigits: 2,
    });
    const button = element(
      "button",
      { type: "button", class: "word", "aria-pressed": "false", onclick: () => choose(button, word.heat) },
      element("span", { dir: "auto" }, word.word),
      " ",
      element("small", {}, spelled),
    );
    button.style.setProperty("--share", Math.max(0, word.contribution) / most);
    return button;
  });
  const list = element("div", { class: "words" }, all, ...buttons);
  place.replaceChildren(list, element("p", { class: "hint" }, t("whereHint")));
  choose(all, explanation.heat);
}
