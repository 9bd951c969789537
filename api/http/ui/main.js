// The page: connects its parts, and updates them when the query changes.

import * as api from "./api.js";
import { showChips } from "./chips.js";
import { listenToCollections, showHead } from "./collections.js";
import { byId, element, fileName } from "./dom.js";
import { listenForPictures } from "./drop.js";
import { isQuickerFirst, listedModality, openFeed } from "./feed.js";
import { readChoices, showFilters } from "./filters.js";
import {
  focusFirstHit,
  focusHit,
  forgetHits,
  setModality,
  showHits,
  showPassages,
} from "./grid.js";
import { switchLanguage, t, translate } from "./i18n.js";
import { local } from "./storage.js";
import { library, minRelevanceOf, readLibrary } from "./library.js";
import {
  hideMessage,
  showEmptyLibrary,
  showMessage,
  showNoLibrary,
  showProblem,
} from "./messages.js";
import { showUnread } from "./notes.js";
import { addPicture } from "./query-pictures.js";
import {
  EMPTY,
  SORTS,
  filtersOf,
  fromAddress,
  hasNoDay,
  isByDate,
  itemOfAddress,
  lacksPicture,
  literalIn,
  partsOf,
  readText,
  toAddress,
  whereOf,
} from "./query.js";
import { listenToSelectionBar, showBar } from "./selection-bar.js";
import { listenToSuggestions, noteSearch } from "./suggestions.js";
import { closeViewer, isOpen, listenToViewer, openViewer } from "./viewer.js";

const TYPING_PAUSE_MS = 150;
const CLOSER_LOOK_PAUSE_S = 0.4;
// Keystrokes nearer than this to each other are one entry of the history.
const SAME_THOUGHT_MS = 1500;
const IDEAS = ["idea1", "idea2", "idea3", "idea4"];

const text = byId("text");
let query = fromAddress(location.search);
let feed = null;
let loading = null;
let answered = null;
let understood = [];
let lastTyped = 0;
let viewerPushed = false;
const names = new Map();

// ---- The query changes

function change(part, { replace = false } = {}) {
  query = { ...query, ...part };
  history[replace ? "replaceState" : "pushState"](null, "", toAddress(query));
  showQuestion();
  ask();
}

function showQuestion() {
  if (text.value !== query.text) text.value = query.text;
  byId("clear").hidden = !query.text && !query.things.length;
  showTheChips();
  showFilters(query, change);
  showSorts();
  showHead(query);
  const title = readText(query.text).plus ? query.text : query.collection;
  document.title = title ? `${title} – mmsearch` : "mmsearch";
}

// Without a query there is no relevance: the page then shows what was added last.
function showSorts() {
  const listed = query.collection ? "sort_collection" : "sort_added";
  const plain = partsOf(query).length ? "sort_relevance" : listed;
  byId("sort").replaceChildren(
    ...SORTS.map((value) =>
      element(
        "option",
        { value, selected: value === query.sort },
        t(value === "relevance" ? plain : `sort_${value}`),
      ),
    ),
  );
}

byId("sort").addEventListener("change", () => change({ sort: byId("sort").value }));

function showTheChips() {
  showChips(query, { change, nameOf: (id) => names.get(id) ?? `#${id}`, understood });
}

// ---- Asking, and showing the answer

// Resolves when the first answer is shown; a closer look may follow it.
async function ask() {
  const quickly = partsOf(query).length > 0 && isQuickerFirst(query);
  const asked = follow(openFeed(quickly ? { ...query, rerank: false } : query));
  byId("search").classList.add("busy");
  try {
    if (!library.known) {
      await readLibrary();
      showFilters(query, change);
      showHead(query);
      showUnread();
      asked.min = minRelevanceOf(query);
    }
    const answer = await asked.next();
    if (asked !== feed) return;
    showAnswer(asked, answer);
    if (!byId("filters").hidden) readChoices(query, change);
    if (quickly) lookCloser(asked);
    else byId("search").classList.remove("busy");
  } catch (error) {
    if (asked === feed && error.name !== "AbortError") fail(error, asked);
  }
}

function follow(asked) {
  feed = asked;
  loading = null;
  return asked;
}

// The first answer was not reranked. The reranked one takes its place, unless someone already looks
// further into the first.
async function lookCloser(asked) {
  const looked = asked.hits.length;
  try {
    await api.pause(CLOSER_LOOK_PAUSE_S, asked.signal);
    const closer = openFeed(query, { beside: true });
    const answer = await closer.next();
    if (asked !== feed) return;
    if (asked.hits.length === looked && !isOpen() && scrollY < 300) showAnswer(follow(closer), answer);
    else asked.explains ||= closer.explains;
  } catch (error) {
    if (asked === feed && error.name !== "AbortError") byId("note").textContent = error.message;
  } finally {
    if (asked.signal.aborted === false) byId("search").classList.remove("busy");
  }
}

async function fail(error, asked) {
  byId("search").classList.remove("busy");
  clearHits();
  byId("hello").hidden = true;
  byId("status").textContent = "";
  const seconds = (await waitsForLibrary(error)) ? 2 : showProblem(error, ask);
  if (seconds === null) return;
  await api.pause(seconds);
  if (asked === feed) ask();
}

// Tells how to begin where a service has no library yet, which it opens by itself.
async function waitsForLibrary(error) {
  if (error.status !== 503) return false;
  const { status, first_command } = await api.readiness().catch(() => ({}));
  if (status === "no library") showNoLibrary(first_command);
  return status === "no library";
}

function clearHits() {
  showHits([], hitActions);
  showPassages([], hitActions);
  forgetHits();
  byId("more").hidden = true;
  byId("anyway").hidden = true;
  byId("note").textContent = "";
}

function showAnswer(asked, answer) {
  answered = query;
  noteSearch(query);
  hideMessage();
  byId("hello").hidden = asked.isSearch || Boolean(query.collection || query.hidden);
  setModality(asked.isSearch ? query.modality : listedModality(query));
  understood = answer.understood ?? [];
  showTheChips();
  remember([...answer.hits, ...answer.passages]);
  showHits(answer.hits, hitActions, { byDate: isByDate(query) });
  showPassages(answer.passages, hitActions);
  tell(asked, answer);
  if (!found(asked)) explainNothing(asked);
  byId("more").hidden = asked.done;
  if (asked.isSearch && scrollY > 0 && !isOpen()) scrollTo({ top: 0 });
  askForMoreIfNear();
}

const found = (asked) => asked.hits.length + asked.passages.length;

function remember(hits) {
  for (const hit of hits) names.set(hit.item_id, fileName(hit.path));
  if (query.things.some((thing) => thing.type === "item")) {
    showTheChips();
  }
}

function tell(asked, answer) {
  const kind = query.modality === "text" ? "Chunks" : "";
  const n = asked.hits.length;
  byId("status").textContent = !asked.isSearch
    ? t(isByDate(query) ? "library" : query.collection ? "asCollected" : query.hidden ? "areHidden" : "newest")
    : [t(asked.done ? `counted${kind}` : `countedMore${kind}`, { n })]
        .concat(asked.passages.length ? t("countedTexts", { n: asked.passages.length }) : [])
        .join(" · ");
  const notes = [];
  if (answer?.ms) notes.push(t("took", { ms: Math.round(answer.ms) }));
  if (answer?.left_out && found(asked)) notes.push(t("leftOut", { n: answer.left_out }));
  byId("anyway").hidden = !(asked.isSearch && asked.done && asked.min !== 0 && found(asked));
  if (lacksPicture(query)) notes.push(t("lostPicture"));
  notes.push(...(answer?.warnings ?? []));
  byId("note").textContent = notes.join(" · ");
}

function explainNothing(asked) {
  byId("status").textContent = t(query.modality === "text" ? "countedChunks" : "counted", { n: 0 });
  if (!asked.isSearch && !whereOf(query)) {
    byId("hello").hidden = true;
    byId("status").textContent = "";
    showEmptyLibrary();
  } else if (hasNoDay(query)) {
    byId("hello").hidden = true;
    showMessage(t("daysTitle"), t("daysHint"), {
      text: t("resetDays"),
      run: () => change({ from: "", to: "" }),
    });
  } else if (asked.isSearch && asked.min !== 0) {
    showMessage(t("noneTitle"), t("noneHint"), {
      text: t("noneAnyway"),
      run: () => change({ min: 0 }),
    });
  } else if (query.collection && JSON.stringify(whereOf(query)) === JSON.stringify({ collection: query.collection })) {
    byId("status").textContent = "";
    showMessage(t("emptyCollection"), t("emptyCollectionHint"));
  } else if (whereOf(query)) {
    byId("hello").hidden = true;
    showMessage(t("filteredTitle"), t("filteredHint"), {
      text: t("reset"),
      run: () => change({ ...filtersOf(EMPTY), modality: query.modality }),
    });
  } else {
    showMessage(t("noneTitle"), t("noneHint"));
  }
}

function more() {
  if (!feed || feed.done || !found(feed)) return null;
  const asked = feed;
  loading ??= asked
    .next()
    .then((answer) => {
      if (asked !== feed) return;
      remember([...answer.hits, ...answer.passages]);
      showHits(answer.hits, hitActions, { append: true, byDate: isByDate(query) });
      showPassages(answer.passages, hitActions, { append: true });
      byId("more").hidden = asked.done;
      tell(asked, null);
    })
    .catch((error) => {
      if (error.name === "AbortError" || asked !== feed) return;
      asked.done = true;
      byId("more").hidden = true;
      byId("note").textContent = error.message;
    })
    .finally(() => {
      if (asked === feed) loading = null;
    });
  return loading;
}

const bottom = byId("more-row");
const nearBottom = new IntersectionObserver(
  async ([entry]) => {
    if (!entry.isIntersecting) return;
    await more();
    askForMoreIfNear();
  },
  { rootMargin: "900px" },
);
nearBottom.observe(bottom);

// An observer tells of changes only: where the bottom stays near, it has to be asked again.
function askForMoreIfNear() {
  nearBottom.unobserve(bottom);
  if (feed && !feed.done && found(feed)) nearBottom.observe(bottom);
}

// ---- The viewer

const hitActions = {
  addressOf: (hit) => toAddress(query, hit.item_id),
  open: (id) => {
    noteSearch(query, { now: true });
    history.pushState(null, "", toAddress(query, id));
    viewerPushed = true;
    showItem(id);
  },
  like: (id) => change({ ...EMPTY, ...filtersOf(query), things: [{ type: "item", id, weight: 1 }] }),
};

// The pictures, or the texts beside them, whichever an item is among.
function hitsWith(id) {
  return [feed.hits, feed.passages].find((hits) => hits.some((hit) => hit.item_id === id));
}

async function showItem(id) {
  const hits = hitsWith(id);
  const words = readText(query.text).plus;
  if (hits) {
    const at = hits.findIndex((hit) => hit.item_id === id);
    const place = { n: at + 1, of: hits.length, more: !feed.done };
    openViewer(hits[at], place, words, feed.explains);
    return;
  }
  try {
    openViewer(await api.item(id), null, words, feed.explains);
  } catch (error) {
    byId("note").textContent = error.message;
  }
}

async function step(by) {
  const id = itemOfAddress(location.search);
  const hits = hitsWith(id) ?? feed.hits;
  const at = hits.findIndex((hit) => hit.item_id === id) + by;
  if (at >= hits.length) await more();
  const hit = hits[at];
  if (!hit || !isOpen()) return;
  history.replaceState(null, "", toAddress(query, hit.item_id));
  showItem(hit.item_id);
}

function closed(id) {
  if (itemOfAddress(location.search) !== null) {
    if (viewerPushed) history.back();
    else history.replaceState(null, "", toAddress(query));
  }
  viewerPushed = false;
  focusHit(id);
}

function leaveViewer(part) {
  history.replaceState(null, "", toAddress(query));
  viewerPushed = false;
  closeViewer();
  change(part);
  text.focus({ preventScroll: true });
}

listenToViewer({
  step,
  closed,
  like: (id) =>
    leaveViewer({ text: "", things: [{ type: "item", id, weight: 1 }], sort: EMPTY.sort }),
  add: (id) => leaveViewer({ things: [...query.things, { type: "item", id, weight: 1 }] }),
});

// ---- Selecting, collections, suggestions

// Takes hits out of the page where it is; returns how to bring them back.
function leaveOut(ids) {
  const asked = feed;
  const before = [[...asked.hits], [...asked.passages]];
  const gone = new Set(ids);
  const show = (lists) => {
    [asked.hits, asked.passages].forEach((hits, at) => hits.splice(0, hits.length, ...lists[at]));
    showHits(asked.hits, hitActions, { byDate: isByDate(query) });
    showPassages(asked.passages, hitActions);
    tell(asked, null);
    askForMoreIfNear();
  };
  show(before.map((hits) => hits.filter((hit) => !gone.has(hit.item_id))));
  return () => (asked === feed ? show(before) : ask());
}

listenToSelectionBar({
  loaded: () => (feed ? [...feed.passages, ...feed.hits].map((hit) => hit.item_id) : []),
  query: () => query,
  leaveOut,
});
listenToCollections({ open: (wanted) => change(wanted) });
listenToSuggestions({ query: () => query, open: (wanted) => change(wanted) });

// ---- Typing

let typing = null;
text.addEventListener("input", () => {
  clearTimeout(typing);
  byId("clear").hidden = !text.value && !query.things.length;
  typing = setTimeout(typed, TYPING_PAUSE_MS);
});

function typed() {
  clearTimeout(typing);
  if (text.value === query.text) return;
  const replace = performance.now() - lastTyped < SAME_THOUGHT_MS;
  lastTyped = performance.now();
  const literal = literalIn(text.value, query.literal);
  change({ text: text.value, literal }, { replace });
}

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  typed();
  if (matchMedia("(hover: none)").matches) text.blur();
});

function clear() {
  clearTimeout(typing);
  text.value = "";
  change({ text: "", things: [], literal: [] });
  text.focus();
}

byId("clear").addEventListener("click", clear);

text.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  if (event.key === "Escape" && (text.value || query.things.length)) {
    event.preventDefault();
    clear();
  } else if (event.key === "ArrowDown") {
    event.preventDefault();
    focusFirstHit();
  }
});

document.addEventListener("keydown", (event) => {
  const writes = event.target.closest("input, select, textarea");
  if (event.key === "/" && !writes && !document.querySelector("dialog[open]")) {
    event.preventDefault();
    text.focus();
    text.select();
  } else if (event.key === "Escape" && !byId("filters").hidden && !document.querySelector("dialog[open]")) {
    toggleFilters(false);
  }
});

listenForPictures(async (file) => {
  closeViewer();
  try {
    const id = await addPicture(file);
    change({ things: [...query.things, { type: "picture", id, weight: 1 }] });
  } catch {
    byId("note").textContent = t("notAPicture");
  }
});

// ---- Buttons of the bar

function toggleFilters(open, { focus = true } = {}) {
  byId("filters").hidden = !open;
  byId("filters-button").setAttribute("aria-expanded", String(open));
  if (open) readChoices(query, change);
  if (!open && focus) byId("filters-button").focus();
}

document.addEventListener("pointerdown", (event) => {
  const outside = !event.target.closest("#filters, #filters-button");
  if (outside && !byId("filters").hidden) toggleFilters(false, { focus: false });
});

byId("filters-button").addEventListener("click", () => toggleFilters(byId("filters").hidden));
byId("more").addEventListener("click", more);
byId("anyway").addEventListener("click", () => change({ min: 0 }));

const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
function showTheme() {
  const chosen = document.documentElement.dataset.theme;
  const dark = chosen ? chosen === "dark" : systemIsDark.matches;
  document.documentElement.classList.toggle("dark", dark);
  return dark;
}
systemIsDark.addEventListener("change", showTheme);
byId("theme").addEventListener("click", () => {
  const theme = showTheme() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  local.set("theme", theme);
  showTheme();
});

byId("language").addEventListener("click", () => {
  switchLanguage();
  showTexts();
  showBar();
  showQuestion();
  ask();
});

function showTexts() {
  translate();
  showUnread();
  byId("language").textContent = t("otherLanguage");
  byId("language").setAttribute("aria-label", t("otherLanguageLabel"));
  byId("ideas").replaceChildren(
    ...IDEAS.map((idea) =>
      element(
        "li",
        {},
        element("button", { type: "button", onclick: () => change({ text: t(idea) }) }, t(idea)),
      ),
    ),
  );
}

addEventListener("scroll", () => document.querySelector(".bar").classList.toggle("scrolled", scrollY > 4), {
  passive: true,
});

// ---- The API key

api.onMissingKey(
  (wrong) =>
    new Promise((resolve) => {
      const dialog = byId("ask");
      const field = byId("ask-key");
      byId("ask-reason").textContent = t(wrong ? "keyWrong" : "keyHint");
      field.value = "";
      byId("ask-form").onsubmit = (event) => {
        event.preventDefault();
        dialog.oncancel = null;
        dialog.close();
        resolve(field.value.trim());
      };
      dialog.oncancel = (event) => event.preventDefault();
      dialog.showModal();
    }),
);

// ---- Going back and forward

async function followAddress() {
  const item = itemOfAddress(location.search);
  query = fromAddress(location.search);
  if (JSON.stringify(query) !== JSON.stringify(answered)) {
    showQuestion();
    await ask();
  }
  if (item !== null) showItem(item);
  else if (isOpen()) closeViewer();
}

addEventListener("popstate", followAddress);

showTexts();
showTheme();
showQuestion();
followAddress();
