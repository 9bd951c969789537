// One picture, passage or video, large, with what is known of it: a native modal dialog.

import * as api from "./api.js";
import { copy } from "./clipboard.js";
import { offerDescription } from "./describe.js";
import { byId, element, fileName, iconButton } from "./dom.js";
import { linksTo } from "./file-links.js";
import { isSound, spanOf, timeOf } from "./file-times.js";
import { showFoundTexts } from "./found-texts.js";
import { ratioOf } from "./grid.js";
import { drawHeat } from "./heat.js";
import { clock, date, fileSize, listed, number, percent, t } from "./i18n.js";
import { showKeys } from "./keys.js";
import { showMap } from "./map.js";
import { isMedia, showMedia } from "./media.js";
import { showPages, showPassage } from "./passage.js";
import { OF_FILES } from "./query.js";
import { makeSharper } from "./sharper.js";
import { makeSlideshow } from "./slideshow.js";
import { showThumbnail } from "./thumbnails.js";
import { makeZoom } from "./zoom.js";

const COPIED_MS = 2000;
// Smaller pictures are enlarged to this width; a player needs room for its buttons.
const [LEAST_PX, LEAST_MEDIA_PX] = [480, 800];

const dialog = byId("viewer");
// These stay while what they hold changes: full screen and gestures go on.
const stage = element("div", { class: "viewer-stage" });
const side = element("div", { class: "viewer-side" });
let shown = null;
let shownPlace = null;
let player = null;
let sharper = null;
let switchBoxes = null;
let running = new AbortController();

// The viewer's wishes: step(by) resolves to whether there was one; show(item) shows another item of
// the same file; closed(item id), like(id), add(id); moments(hit, signal): hits in the same video;
// addressOf(hit); search(query part): leaves the viewer with a query of these filters alone;
// addressOfSearch(query part).
let wishes = null;

export const isOpen = () => dialog.open;

const zoom = makeZoom(stage, {
  swipe: (by) => wishes.step(by),
  changed: (scale, canMore) => {
    const [closer, wider] = [toolNamed("zoom-in"), toolNamed("zoom-out")];
    if (closer) closer.disabled = !canMore;
    if (wider) wider.disabled = scale === 1;
    sharper?.(scale);
  },
});

const slideshow = makeSlideshow(
  () => wishes.step(1),
  (isRunning) => {
    const button = toolNamed("slideshow");
    button?.setAttribute("aria-pressed", String(isRunning));
    if (isRunning) stage.requestFullscreen?.().catch(() => {});
    else if (document.fullscreenElement === stage) document.exitFullscreen();
  },
);

const toolNamed = (name) => stage.querySelector(`.viewer-tools [data-name="${name}"]`);

export function closeViewer() {
  if (dialog.open) dialog.close();
}

export function listenToViewer(given) {
  wishes = given;
  dialog.addEventListener("close", () => {
    running.abort();
    slideshow.stop();
    document.body.classList.remove("still");
    dialog.replaceChildren();
    wishes.closed(shown);
  });
  dialog.addEventListener("click", (event) => {
    const isBeside = event.target === stage || event.target.matches(".media");
    if (event.target === dialog || (isBeside && zoom.scale() === 1)) dialog.close();
  });
  dialog.addEventListener("keydown", pressed);
  document.addEventListener("fullscreenchange", () => {
    if (!document.fullscreenElement) slideshow.stop();
    const button = toolNamed("full-screen");
    button?.setAttribute("aria-pressed", String(document.fullscreenElement === stage));
  });
}

function pressed(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  // The player has keys of its own: it goes forward and back in the video.
  const isPlayers = event.target === player && /^(Arrow|Home|End| )/.test(event.key);
  if (isPlayers || event.target.matches("input, textarea, select")) return;
  if (document.activeElement?.matches(".viewer-chunk") && /^Arrow(Up|Down)/.test(event.key)) return;
  const steps = { ArrowLeft: -1, ArrowRight: 1 };
  const keys = {
    f: toggleFullScreen,
    t: () => switchBoxes?.(),
    s: () => slideshow.toggle(),
    d: () => side.querySelector('[data-name="download"]')?.click(),
    c: () => side.querySelector('[data-name="copy-link"]')?.click(),
    ...(player && {
      k: () => (player.paused ? player.play().catch(() => {}) : player.pause()),
      m: () => (player.muted = !player.muted),
    }),
  };
  const run = keys[event.key.toLowerCase()];
  if (zoom.press(event.key)) event.preventDefault();
  else if (steps[event.key]) {
    event.preventDefault();
    wishes.step(steps[event.key]);
  } else if (run) {
    event.preventDefault();
    run();
  }
}

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else stage.requestFullscreen?.().catch(() => {});
}

// hit: a hit or a listed item. place: {n, of, more} among the hits, or null. words: the wanted text
// of the query, "" without one.
export function openViewer(hit, place, words, explains) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const focused = dialog.contains(document.activeElement) ? document.activeElement.dataset.name : null;
  shown = hit.item_id;
  player = null;
  switchBoxes = null;
  const links = linksTo(hit, signal);
  links.catch(() => {}); // what needs them says so
  const name = fileName(hit.path);
  const note = element("p", { class: "viewer-note", role: "status" });
  const isText = isRead(hit);
  const frame = isText ? null : picture(hit);
  const media = frame && isMedia(hit) ? play(hit, frame, links, note, signal) : null;
  player = media?.player ?? null;
  const content = media?.content ?? frame ?? showPassage(hit, signal);
  const facts = element("dl", { class: "facts" });
  const [looked, pages, found, described, where] = ["looked", "pages", "found-in-item", "described", "where"].map(
    (kind) => element("section", { class: kind }),
  );
  stage.replaceChildren(content, stepper("previous", -1), stepper("next", 1), tools(hit));
  side.replaceChildren(
    ...[
      element(
        "div",
        { class: "viewer-head" },
        element("h2", { dir: "auto" }, name),
        named("close", iconButton("close", t("close"), () => dialog.close())),
      ),
      element("p", { class: "viewer-what" }),
      hit.text && !isText ? element("q", { class: "viewer-passage", dir: "auto" }, hit.text) : null,
      note,
      actions(hit, links),
      pages,
      media?.side,
      found,
      described,
      scores(hit),
      looked,
      element("h3", {}, t("about")),
      facts,
      where,
    ].filter(Boolean),
  );
  placeViewer(hit, place);
  if (!dialog.open) {
    dialog.replaceChildren(stage, side);
    document.body.classList.add("still");
    dialog.showModal();
  }
  side.scrollTop = 0;
  sharper = frame ? makeSharper(frame, hit, links, signal) : null;
  zoom.show(media ? null : frame, hit.width);
  slideshow.shown(player);
  focusOn(focused);
  tellFacts(facts, where, frame, hit, signal);
  tellTexts(found, frame, hit, words, signal);
  if (frame && hit.thumbnail && !isSound(hit)) offerDescription(described, hit, signal);
  if (hit.kind === "document" && hit.page && !isText) {
    showPages(pages, hit, wishes.show, signal).then(() => {
      if (focused?.startsWith("page-") && !signal.aborted) focusOn(focused);
    });
  }
  if (isText && hit.thumbnail) showPageOf(pages, hit, links);
  if (words && explains && hit.modality === "image") offerHeat(looked, frame, hit, words, signal);
}

// Whether it is shown as a text among those beside it, not as the picture, video or sound in which a model found it.
const isRead = (hit) => hit.modality === "text" && !hit.found_by;

async function tellTexts(section, frame, hit, words, signal) {
  const button = toolNamed("boxes");
  const isRecognised = await showFoundTexts(section, {
    hit,
    frame,
    words,
    player,
    switched: (isOn) => button?.setAttribute("aria-pressed", String(isOn)),
    signal,
  });
  if (signal.aborted || !isRecognised) return;
  switchBoxes = isRecognised;
  button.hidden = false;
}

const isSeen = (node) => node.getClientRects().length > 0;

function focusOn(name) {
  const wanted = [name ?? "next", "close"].flatMap((each) => [
    ...dialog.querySelectorAll(`[data-name="${each}"]:enabled, a[data-name="${each}"]`),
  ]);
  const target = wanted.find(isSeen);
  if (target !== document.activeElement) target?.focus({ preventScroll: true });
}

// Where a hit stands among the others: {n, of, more}, or null as long as nothing is known.
export function placeViewer(hit, place) {
  if (hit.item_id !== shown) return;
  shownPlace = place;
  const name = fileName(hit.path);
  dialog.setAttribute("aria-label", place ? t(isSound(hit) ? "viewerSound" : "viewer", { ...place, name }) : name);
  side.querySelector(".viewer-what").textContent = what(hit, place);
  stage.querySelector(".step-previous").disabled = !place || place.n <= 1;
  stage.querySelector(".step-next").disabled = !place || !(place.n < place.of || place.more);
}

export const placeShown = () => shownPlace;

function tools(hit) {
  const isPicture = !isRead(hit) && !isMedia(hit);
  const tool = (name, label, run, properties = {}) => {
    const button = named(name, iconButton(name, t(label), run));
    for (const [key, value] of Object.entries(properties)) button.setAttribute(key, value);
    return button;
  };
  return element(
    "div",
    { class: "viewer-tools", role: "toolbar", "aria-label": t("viewerTools") },
    isPicture ? tool("zoom-out", "zoomOut", () => zoom.by(-1)) : null,
    isPicture ? tool("zoom-in", "zoomIn", () => zoom.by(1)) : null,
    isRead(hit) ? null : tool("boxes", "boxes", () => switchBoxes?.(), { "aria-pressed": "false", hidden: "" }),
    tool("slideshow", "slideshow", () => slideshow.toggle(), { "aria-pressed": slideshow.isRunning() }),
    document.fullscreenEnabled
      ? tool("full-screen", "fullScreen", toggleFullScreen, { "aria-pressed": document.fullscreenElement === stage })
      : null,
    tool("help", "keys", showKeys),
    named("close", iconButton("close", t("close"), leave, "stage-close")),
  );
}

function leave() {
  if (document.fullscreenElement) document.exitFullscreen();
  else dialog.close();
}

// The page that a passage stands on, small: it opens the document there.
async function showPageOf(section, hit, links) {
  const picture = element("img", { alt: t("page", { n: hit.page }) });
  const link = element("a", { class: "passage-sheet", target: "_blank", rel: "noopener" }, picture);
  section.replaceChildren(link);
  showThumbnail(picture, hit, 320, { lazy: false });
  link.href = (await links).file;
}

function play(hit, frame, links, note, signal) {
  return showMedia(frame, hit, {
    links,
    moments: wishes.moments(hit, signal),
    show: wishes.show,
    cannot: (why) => {
      player = null;
      slideshow.shorten();
      note.textContent = why;
    },
    signal,
  });
}

function named(name, node) {
  node.dataset.name = name;
  return node;
}

function what(hit, place) {
  const parts = [];
  if (place) parts.push(`${number(place.n)} / ${number(place.of)}${place.more ? "+" : ""}`);
  if (timeOf(hit)) parts.push(timeOf(hit));
  if (hit.page) parts.push(t("page", { n: hit.page }));
  if (hit.group?.length) parts.push(t("sameFile", { n: hit.group.length }));
  return parts.join(" · ");
}

const isNumber = (value) => typeof value === "number";

function stepper(name, step) {
  return named(name, iconButton(name, t(name), () => wishes.step(step), `step step-${name}`));
}

// The small picture, which is there already, stands in until the large one is.
function picture(hit) {
  const frame = element("figure", { class: "viewer-frame" });
  const fit = (ratio) => frame.style.setProperty("--ratio", ratio.toFixed(4));
  fit(ratioOf(hit));
  const least = isMedia(hit) ? LEAST_MEDIA_PX : LEAST_PX;
  if (hit.width) frame.style.setProperty("--most", `${Math.max(hit.width, least)}px`);
  const small = element("img", { alt: "" });
  const large = element("img", { alt: fileName(hit.path), class: "large" });
  // Of a passage that was recognised, nothing but its picture says how large that is.
  if (!hit.width) small.addEventListener("load", () => fit(small.naturalWidth / small.naturalHeight));
  if (hit.thumbnail !== null) {
    showThumbnail(small, hit, 320, { lazy: false });
    showThumbnail(large, hit, 1280, { lazy: false });
  }
  const canvas = element("canvas", { hidden: true, "aria-hidden": "true" });
  frame.append(small, large, canvas, element("figcaption", {}, t("missing")));
  return frame;
}

function actions(hit, links) {
  const open = element("a", { class: "button", target: "_blank", rel: "noopener" }, t("openFile"));
  const save = named("download", element("a", { class: "button", download: fileName(hit.path) }, t("download")));
  links.then(
    ({ file, download }) => {
      open.setAttribute("href", file);
      save.setAttribute("href", download);
    },
    () => {},
  );
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
    save,
    open,
    copyButton("copy-link", "copyLink", () => new URL(wishes.addressOf(hit), location).href),
  );
}

// It says that it has copied, for a moment.
function copyButton(name, label, text) {
  const button = element(
    "button",
    {
      type: "button",
      class: "button",
      onclick: async () => {
        const copied = await copy(text(), dialog);
        said.textContent = t(copied ? "copied" : "copiedNot");
        setTimeout(() => (said.textContent = t(label)), COPIED_MS);
      },
    },
    element("span", { "aria-live": "polite" }, t(label)),
  );
  const said = button.firstChild;
  return named(name, button);
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

async function tellFacts(list, where, frame, hit, signal) {
  let told = hit;
  try {
    told = { ...hit, ...(await api.item(hit.item_id, signal)) };
  } catch (error) {
    if (error.name === "AbortError") return;
  }
  if (signal.aborted) return;
  const caption = captionOf(told);
  const picture = frame?.querySelector(".large");
  if (caption && picture) picture.alt = caption;
  const place = isNumber(told.latitude)
    ? [placeName(told.place), coordinates(told.latitude, told.longitude)].filter(Boolean).join(" · ")
    : null;
  const dimensions = told.width ? t("pixels", { w: told.width, h: told.height }) : null;
  const size = [dimensions, told.bytes ? fileSize(told.bytes) : null].filter(Boolean).join(" · ");
  const columns = [told.columns, ...(told.annotations ?? [])].flatMap((row) => Object.entries(row ?? {}));
  const ofFiles = OF_FILES.flatMap((name) => columns.filter(([other]) => other === name));
  const facts = [
    ["taken", takenOf(told)],
    ["camera", told.camera ? filterLink(told.camera, { camera: told.camera }) : null],
    ["place", place],
    ["time", isNumber(told.end_s) ? spanOf(told) : isNumber(told.time_s) ? clock(told.time_s) : null],
    ["duration", isNumber(told.duration_s) ? clock(told.duration_s) : null],
    ["page", told.page ? number(told.page) : null],
    ["size", size],
    ["description", withoutLists(told.description, told.annotations)],
    ...ofFiles.map(([name, value]) => [name, spelled(name, value)]),
    ["path", told.path ? pathOf(told.path) : null],
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
  if (isNumber(told.latitude) && isNumber(told.longitude)) {
    showMap(where, told, (near, label) => filterLink(label, { near }), signal);
  }
}

// A link to what has the same value: it searches with this filter alone.
function filterLink(label, part) {
  return element(
    "a",
    {
      class: "filter-link",
      href: wishes.addressOfSearch(part),
      onclick: (event) => {
        if (event.metaKey || event.ctrlKey || event.shiftKey) return;
        event.preventDefault();
        wishes.search(part);
      },
    },
    label,
  );
}

// The path, its folder a link to what lies there.
function pathOf(path) {
  const name = fileName(path);
  const folder = path.slice(0, path.length - name.length);
  const above = folder.length > 1 ? folder.slice(0, -1) : folder;
  return element(
    "span",
    { class: "path" },
    folder ? filterLink(folder, { source: above }) : null,
    name,
    copyButton("copy-path", "copyPath", () => path),
  );
}

const CAPTION_COLUMNS = ["caption", "description", "alt", "title", "comment"];

// What a table or the file itself says that the picture shows.
function captionOf({ annotations, description }) {
  const rows = annotations ?? [];
  for (const name of CAPTION_COLUMNS) {
    for (const row of rows) {
      const found = Object.entries(row).find(([key, value]) => key.toLowerCase() === name && typeof value === "string");
      if (found?.[1].trim()) return found[1].trim();
    }
  }
  return withoutLists(description, rows)?.split("\n")[0].trim() || null;
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
  if (name === "rating") return String(value);
  // Each of them leads to what has it, too.
  const links = [value].flat().map((each) => filterLink(String(each), { [name]: String(each) }));
  return element("span", {}, ...links.flatMap((link, at) => (at ? [listed(["", ""]), link] : [link])));
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
    if (on) frame.querySelector("video")?.pause();
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
