// The page: connects its parts, and updates them when the query changes.

import * as api from "./api.js";
import { showChips } from "./chips.js";
import { joinCloser, read, startReading, takeBetter } from "./closer.js";
import { listenToCollections, showHead } from "./collections.js";
import { byId, element, fileName } from "./dom.js";
import { listenForFiles } from "./drop.js";
import { isCloserLookQuick, listedModality, openFeed } from "./feed.js";
import { installServiceWorker } from "./install.js";
import { readChoices, showFilters } from "./filters.js";
import {
  focusFirstHit,
  focusHit,
  forgetHits,
  hitsChanged,
  onShown,
  setModality,
  showHits,
  showPassages,
} from "./grid.js";
import { findHit, hitBeside, hitOf, hitsWith, placeOf } from "./hit-places.js";
import { LANGUAGES, languageName, languageOfPage, switchLanguage, t, textsOf, translate } from "./i18n.js";
import { followLibrary, isIndexing } from "./live.js";
import { followManageAddress, manage } from "./manage.js";
import { local } from "./storage.js";
import { takesDrop } from "./uploads.js";
import { library, minRelevanceOf, readLibrary } from "./library.js";
import {
  hideMessage,
  showEmptyLibrary,
  showMessage,
  showNoLibrary,
  showProblem,
} from "./messages.js";
import { showUnread } from "./notes.js";
import { followPlacesOf, keepPlace, keptPlace, returnTo } from "./places.js";
import { addFile } from "./query-files.js";
import { languageOfIdeas, tellUnknownLanguage } from "./query-language.js";
import {
  EMPTY,
  SORTS,
  filtersOf,
  fromAddress,
  hasNoDay,
  isByDate,
  isSorted,
  itemOfAddress,
  lacksFile,
  literalIn,
  partsOf,
  readText,
  toAddress,
  whereOf,
} from "./query.js";
import { momentsOf } from "./moments.js";
import { moveScrubber, showScrubber } from "./scrubber.js";
import { listenToSelectionBar, showBar } from "./selection-bar.js";
import { listenToSuggestions, noteSearch } from "./suggestions.js";
import { closeViewer, isOpen, listenToViewer, openViewer, placeShown, placeViewer } from "./viewer.js";

const TYPING_PAUSE_MS = 150;
const CLOSER_LOOK_PAUSE_S = 0.4;
const COUNT_PAUSE_S = 0.3;
// Keystrokes nearer than this to each other are one entry of the history.
const SAME_THOUGHT_MS = 1500;
// What a sorted list without a search is called, if it is not by date.
const LISTED = { name: "libraryByName" };
const IDEAS = ["idea1", "idea2", "idea3", "idea4"];

const text = byId("text");
let query = fromAddress(location.search);
let feed = null;
let answered = null;
let understood = [];
let lastTyped = 0;
let viewerPushed = false;
const names = new Map();

// ---- The query changes

function change(part, { replace = false } = {}) {
  if (!replace) keepPlace();
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

// Resolves when the first answer is shown: the quick one, which a closer look may follow. place: where one
// was when the query was last shown.
async function ask(place = null) {
  const quickly = partsOf(query).length > 0 && query.rerank;
  const asked = follow(openFeed(quickly ? { ...query, rerank: false } : query));
  byId("search").classList.add("busy");
  try {
    if (!library.known) {
      await readLibrary();
      showFilters(query, change);
      showPick();
      showIdeas();
      showHead(query);
      showUnread();
      asked.min = minRelevanceOf(query);
    }
    const answer = await asked.next();
    if (asked !== feed) return;
    showAnswer(asked, answer);
    followLibrary(livePage);
    if (place && found(asked)) await returnTo(place, asked, hitsChanged);
    if (!byId("filters").hidden) readChoices(query, change);
    if (quickly) lookCloser(asked);
    else {
      byId("search").classList.remove("busy");
      count(asked);
    }
  } catch (error) {
    if (asked === feed && error.name !== "AbortError") fail(error, asked);
  }
}

function follow(asked) {
  feed = asked;
  asked.changed = () => moreCame(asked);
  asked.failed = (error) => loadFailed(asked, error);
  followPlacesOf(asked);
  return asked;
}

// The first answer was not reranked. The order of the reranked one is taken for what nobody has looked at
// yet, and offered for the rest.
async function lookCloser(asked) {
  let shown = asked;
  try {
    if (!isCloserLookQuick()) await api.pause(CLOSER_LOOK_PAUSE_S, asked.signal);
    const closer = openFeed(query, { beside: true });
    const answer = await closer.next();
    if (asked !== feed) return;
    asked.explains ||= closer.explains;
    if (!isOpen() && !asked.hits.includes(undefined)) {
      const { isOther, isOffered, better } = joinCloser(asked, closer);
      shown = follow(closer);
      remember([...answer.hits, ...answer.passages]);
      showHits(closer, hitActions, { byDate: isByDate(query) });
      if (answer.passages.length) showPassages(closer.passages, hitActions);
      closer.isReordered = isOther;
      tell(closer, answer);
      offer(isOffered ? () => showBetter(closer, better) : null);
    }
  } catch (error) {
    if (asked === feed && error.name !== "AbortError") byId("note").textContent = error.message;
  } finally {
    if (asked.signal.aborted === false) byId("search").classList.remove("busy");
  }
  if (shown === feed) count(shown);
}

function offer(take) {
  byId("closer").hidden = !take;
  byId("closer").onclick = take;
}

function showBetter(closer, better) {
  offer(null);
  takeBetter(closer, better);
  scrollTo({ top: 0 });
  showHits(closer, hitActions, { byDate: isByDate(query) });
  byId("status").focus({ preventScroll: true });
}

// How many there are is asked for last: nobody waits for it.
async function count(asked) {
  if (asked.done && !isByDate(query)) return;
  try {
    if (asked.isSearch) await api.pause(COUNT_PAUSE_S, asked.signal);
    await asked.count();
    if (asked === feed) moreCame(asked);
  } catch (error) {
    if (error.name !== "AbortError" && asked === feed) byId("note").textContent = error.message;
  }
}

// The feed has more hits than were shown, or knows more of them.
function moreCame(asked) {
  if (asked !== feed) return;
  hitsChanged();
  showScrubber(isByDate(query) ? asked : null);
  if (asked.passages.length) showPassages(asked.passages, hitActions);
  tellCount(asked);
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

const livePage = {
  isEmpty: () => !byId("message").hidden && !feed.isSearch && !whereOf(query) && !found(feed),
  show: () => {
    library.known = false;
    scrollTo({ top: 0 });
    return ask();
  },
  said: async () => {
    await readLibrary();
    showUnread();
    if (livePage.isEmpty()) showEmptyLibrary(isIndexing());
  },
};

// Tells how to begin where a service has no library yet, which it opens by itself.
async function waitsForLibrary(error) {
  if (error.status !== 503) return false;
  const health = await api.readiness().catch(() => ({}));
  if (health.status === "no library") showNoLibrary(health);
  return health.status === "no library";
}

const NOTHING = Object.freeze({ hits: [], total: 0, done: true, months: null, load: async () => {} });

function clearHits() {
  tellUnknownLanguage(null);
  showHits(NOTHING, hitActions);
  showPassages([], hitActions);
  showScrubber(null);
  forgetHits();
  offer(null);
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
  tellUnknownLanguage(answer);
  showTheChips();
  remember([...answer.hits, ...answer.passages]);
  byId("more").hidden = true;
  offer(null);
  if (scrollY > 0 && !isOpen()) scrollTo({ top: 0, behavior: "instant" });
  startReading();
  showHits(asked, hitActions, { byDate: isByDate(query) });
  showPassages(answer.passages, hitActions);
  showScrubber(null);
  tell(asked, answer);
  if (!found(asked)) explainNothing(asked);
}

onShown(() => {
  read();
  moveScrubber();
});

const found = (asked) => asked.hits.length + asked.passages.length;

function remember(hits) {
  for (const hit of hits) names.set(hit.item_id, fileName(hit.path));
  if (query.things.some((thing) => thing.type === "item")) {
    showTheChips();
  }
}

function tell(asked, answer) {
  tellCount(asked);
  const notes = [];
  if (answer.left_out && found(asked)) notes.push(t("leftOut", { n: answer.left_out }));
  if (lacksFile(query)) notes.push(t("lostPicture"));
  const technical = new Set(answer.technical ?? []);
  notes.push(...(answer.warnings ?? []).filter((warning) => !technical.has(warning)));
  byId("note").textContent = notes.join(" · ");
  const details = [answer.ms ? t("took", { ms: Math.round(answer.ms) }) : null, ...technical].filter(Boolean);
  byId("details").hidden = !details.length;
  byId("details-list").replaceChildren(...details.map((text) => element("li", {}, text)));
}

// What is listed without a search.
function listName() {
  if (isSorted(query)) return LISTED[query.sort] ?? "library";
  if (query.collection) return "asCollected";
  return query.hidden ? "areHidden" : "newest";
}

// What the texts that count hits of a modality are named after.
function countedAs(modality) {
  if (modality === "any" && library.hasSounds) return "Mixed";
  return { text: "Chunks", audio: "Sounds" }[modality] ?? "";
}

function tellCount(asked) {
  const kind = countedAs(asked.isSearch ? query.modality : listedModality(query));
  const isKnown = asked.done || asked.total !== null;
  const n = isKnown ? asked.total ?? asked.hits.length : asked.hits.length;
  const counted = t(isKnown ? `counted${kind}` : `countedMore${kind}`, { n });
  const told = (
    asked.isSearch
      ? [counted, ...(asked.passages.length ? [t("countedTexts", { n: asked.passages.length })] : [])]
      : [t(listName()), ...(isKnown && listedModality(query) !== "text" ? [counted] : [])]
  ).concat(asked.isReordered ? [t("reordered")] : []);
  if (byId("status").textContent !== told.join(" · ")) byId("status").textContent = told.join(" · ");
  byId("anyway").hidden = !(asked.isSearch && asked.done && asked.min !== 0 && found(asked));
}

function explainNothing(asked) {
  byId("status").textContent = t(`counted${countedAs(query.modality)}`, { n: 0 });
  if (!asked.isSearch && !whereOf(query)) {
    byId("hello").hidden = true;
    byId("status").textContent = "";
    showEmptyLibrary(isIndexing());
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

function loadFailed(asked, error) {
  if (error.name === "AbortError" || asked !== feed) return;
  byId("note").textContent = error.message;
  byId("more").hidden = false;
}

byId("more").addEventListener("click", () => {
  byId("more").hidden = true;
  byId("note").textContent = "";
  hitsChanged();
});

// ---- The viewer

const hitActions = {
  addressOf: (hit) => toAddress(query, hit.item_id),
  open: (id) => {
    keepPlace();
    noteSearch(query, { now: true });
    history.pushState(null, "", toAddress(query, id));
    viewerPushed = true;
    showItem(id);
  },
  like: (id) => change({ ...EMPTY, ...filtersOf(query), things: [{ type: "item", id, weight: 1 }] }),
};

const loadHits = (from, to) => feed.load(from, to);

// The hit from which one goes on to the next: the last one shown that is among the hits.
let anchor = null;

async function showItem(id) {
  const hit = hitOf(feed, id);
  const words = readText(query.text).plus;
  if (hit) {
    anchor = id;
    openViewer(hit, placeOf(feed, id), words, feed.explains);
    return;
  }
  try {
    const item = await api.item(id);
    if (itemOfAddress(location.search) !== id) return;
    openViewer(item, isOpen() ? placeShown() : null, words, feed.explains);
    if (!placeShown()) findPlace(item);
  } catch (error) {
    byId("note").textContent = error.message;
  }
}

// What a link leads to may lie beyond the first page: it is looked for there, so that it has a previous
// and a next one.
async function findPlace(item) {
  const asked = feed;
  const isAwaited = () => asked === feed && isOpen() && itemOfAddress(location.search) === item.item_id;
  if (!(await findHit(asked, item.item_id, loadHits, isAwaited))) return;
  anchor = item.item_id;
  placeViewer(item, placeOf(feed, anchor));
}

// Resolves to whether there was one.
async function step(by) {
  const shown = itemOfAddress(location.search);
  const hit = await hitBeside(feed, hitsWith(feed, shown) ? shown : anchor, by, loadHits);
  if (!hit || !isOpen()) return false;
  showInstead(hit.item_id);
  return true;
}

function showInstead(id) {
  history.replaceState(null, "", toAddress(query, id));
  showItem(id);
}

function closed(id) {
  if (itemOfAddress(location.search) !== null) {
    if (viewerPushed) history.back();
    else history.replaceState(null, "", toAddress(query));
  }
  viewerPushed = false;
  focusHit(hitsWith(feed, id) ? id : anchor);
  anchor = null;
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
  show: (item) => showInstead(item.item_id),
  moments: (hit, signal) => momentsOf(query, hit, signal),
  addressOf: hitActions.addressOf,
  search: (part) => leaveViewer({ ...EMPTY, ...part }),
  addressOfSearch: (part) => toAddress({ ...EMPTY, ...part }),
});

// ---- Selecting, collections, suggestions

// Takes hits out of the page where it is; returns how to bring them back.
function leaveOut(ids) {
  const asked = feed;
  const back = asked.leaveOut(ids);
  const show = () => {
    hitsChanged();
    showPassages(asked.passages, hitActions);
    tellCount(asked);
  };
  show();
  return () => {
    if (asked !== feed) return ask();
    back();
    return show();
  };
}

listenToSelectionBar({
  loaded: () => (feed ? [...feed.passages, ...feed.hits].filter(Boolean).map((hit) => hit.item_id) : []),
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
  text.focus({ preventScroll: true });
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
    text.focus({ preventScroll: true });
    text.select();
  } else if (event.key === "Escape" && !byId("filters").hidden && !document.querySelector("dialog[open]")) {
    toggleFilters(false);
  }
});

listenForFiles(async (file) => {
  closeViewer();
  try {
    const thing = await addFile(file, library.hasSounds);
    change({ things: [...query.things, { ...thing, weight: 1 }] });
  } catch {
    byId("note").textContent = t(library.hasSounds ? "notASound" : "notAPicture");
  }
}, (event) => takesDrop(event, () => manage("add")));

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

byId("language").append(
  ...LANGUAGES.map((tag) =>
    element("option", { value: tag, lang: tag, selected: tag === languageOfPage() }, languageName(tag)),
  ),
);
byId("language").addEventListener("change", async () => {
  await switchLanguage(byId("language").value);
  forgetHits();
  showTexts();
  showBar();
  showQuestion();
  ask();
});

function showTexts() {
  translate();
  showPick();
  showUnread();
  showIdeas();
}

// What can be searched with.
function showPick() {
  byId("pick").title = t(library.hasSounds ? "pickAny" : "pick");
  byId("pick").setAttribute("aria-label", byId("pick").title);
}

// In the language of the page, unless the library would not understand it.
async function showIdeas() {
  const language = languageOfIdeas(LANGUAGES);
  const texts = language && (await textsOf(language));
  byId("ideas").replaceChildren(
    ...(texts ? IDEAS.map((idea) => texts[idea]) : []).map((text) =>
      element(
        "li",
        { lang: language },
        element("button", { type: "button", onclick: () => change({ text }) }, text),
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
        resolve(api.secretOf(field.value));
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
    await ask(keptPlace());
  }
  if (item !== null) showItem(item);
  else if (isOpen()) closeViewer();
}

addEventListener("popstate", followAddress);

showTexts();
showTheme();
showQuestion();
followAddress();
installServiceWorker();
followManageAddress();
