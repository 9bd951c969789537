// The answers to a query. A search is loaded from its beginning on, the library wherever one looks. A new
// query aborts the previous one.

import { facets, items, search } from "./api.js";
import { library, minRelevanceOf } from "./library.js";
import { hasNoDay, isByDate, isSorted, partsOf, whereOf } from "./query.js";

const PAGE = 60;
// What is asked for at once when one scrolls on: a search, up to where a jump leads, and the library.
const [NEXT_HITS, MOST_HITS, ITEMS, MOST_ITEMS] = [240, 10_000, 240, 1000];
const MOST_MONTHS = 1000;
// The orders in which a list can begin anywhere; others are loaded from the beginning on.
const ANYWHERE = ["newest", "date", "date-asc"];
const NOTHING = Object.freeze({ hits: [], next_cursor: null, ms: null });
// Below this, a closer look follows at once; above, when the typing has stopped. It is so where the
// reranker has not seen most images yet.
const QUICK_MS = 200;

let rerankingIsQuick = false;

const running = [];

// What is listed without a search: pictures, or the sounds or texts of a library that has no pictures.
export function listedModality({ modality }) {
  if (modality !== "any") return modality;
  if (library.hasPictures) return "image";
  return library.hasSounds ? "audio" : "text";
}

// Whether the closer look at a query takes no longer than a moment, as the last one did.
export const isCloserLookQuick = () => rerankingIsQuick;

// Returns an object with `next()`, a promise of the first or next page: {hits, passages, ms, warnings},
// where passages are texts that were found beside pictures; and `load(from, to)`, which resolves when
// these of `hits` are there. `hits` has holes where the library is not loaded. `total` is null until
// `count()` has told it, or all is loaded. `changed()` is called when more is there, `failed(error)` when
// what is near the window could not be loaded.
// It aborts the feed before it, unless it is to come beside that one.
export function openFeed(query, { beside = false } = {}) {
  const controller = new AbortController();
  if (!beside) for (const other of running.splice(0)) other.abort();
  running.push(controller);
  const { signal } = controller;
  const parts = partsOf(query);
  const isSearch = parts.length > 0;
  const order = isSorted(query) ? query.sort : query.collection ? "collection" : "newest";
  const isInOrder = isSearch || !ANYWHERE.includes(order);
  const seen = new Set();
  const pages = new Map(); // of the library: the first index of each page that was asked for, and its promise
  let cursor = null;
  let newest = null;
  let queue = Promise.resolve();
  let counted = null;

  const feed = {
    isSearch,
    hasMonths: !isSearch && isByDate(query), // which have to be counted before it can be laid out
    min: minRelevanceOf(query),
    signal,
    changed: () => {},
    failed: () => {},
    done: false,
    explains: false,
    hits: [],
    passages: [],
    total: null,
    months: null,

    async next(k = PAGE) {
      const answer = hasNoDay(query) ? NOTHING : await (isSearch ? searched(k) : listed(0, k, cursor));
      signal.throwIfAborted();
      feed.explains ||= /^(fusion|late-interaction)/.test(answer.reranker ?? "");
      const fresh = answer.hits.filter((hit) => !seen.has(hit.item_id));
      for (const hit of fresh) seen.add(hit.item_id);
      const isPassage = (hit) => isSearch && query.modality === "any" && hit.modality === "text";
      const passages = fresh.filter(isPassage);
      const hits = fresh.filter((hit) => !isPassage(hit));
      if (isInOrder) feed.hits.push(...hits);
      else hits.forEach((hit, at) => (feed.hits[at] = hit));
      feed.passages.push(...passages);
      if (isInOrder) cursor = answer.next_cursor ?? null;
      if (!answer.next_cursor) [feed.done, feed.total] = [true, feed.hits.length];
      else if (feed.total !== null && feed.hits.length >= feed.total) feed.total = feed.hits.length + PAGE;
      return { ...answer, hits, passages };
    },

    async load(from, to) {
      if (feed.done) return;
      await (isInOrder ? loadInOrder(to) : loadItems(from, to));
    },

    // How many hits there are, and how many of each month, in the order of the hits.
    count() {
      counted ??= facets(bodyOf(), signal, MOST_MONTHS).then((told) => {
        if (!feed.done) feed.total = Math.max(told.total, feed.hits.length);
        feed.months = query.sort === "date-asc" ? told.months.toReversed() : told.months;
        return feed;
      });
      return counted;
    },

    // Takes the order of another feed for what comes behind the first `kept` hits, and goes on with it.
    follow(closer, kept) {
      const first = feed.hits.slice(0, kept);
      const ids = new Set(first.map((hit) => hit.item_id));
      closer.hits.unshift(...first);
      for (let at = closer.hits.length - 1; at >= kept; at -= 1) {
        if (ids.has(closer.hits[at].item_id)) closer.hits.splice(at, 1);
      }
      closer.skip(ids);
      closer.total = closer.done ? closer.hits.length : feed.total;
      closer.months = feed.months;
    },

    // Takes hits out, which the service does not find any more; returns what brings them back.
    leaveOut(ids) {
      const gone = new Set(ids);
      const before = [feed.hits, feed.passages, feed.total, feed.months];
      const kept = [];
      let length = 0;
      feed.hits.forEach((hit, at) => {
        if (gone.has(hit.item_id)) length -= 1;
        else kept[at + length] = hit;
      });
      kept.length = feed.hits.length + length;
      feed.hits = kept;
      feed.passages = feed.passages.filter((hit) => !gone.has(hit.item_id));
      if (feed.total !== null) feed.total += length;
      pages.clear();
      return () => {
        [feed.hits, feed.passages, feed.total, feed.months] = before;
        pages.clear();
      };
    },

    skip(ids) {
      for (const id of ids) seen.add(id);
    },
  };

  function loadInOrder(to) {
    queue = queue.catch(() => {}).then(async () => {
      while (!feed.done && feed.hits.length < to) {
        const before = feed.hits.length;
        await feed.next(Math.min(isSearch ? MOST_HITS : MOST_ITEMS, Math.max(NEXT_HITS, to - before)));
        feed.changed();
        if (feed.hits.length === before) break;
      }
    });
    return queue;
  }

  async function loadItems(from, to) {
    const last = feed.total === null ? to : Math.min(to, feed.total);
    const wanted = [];
    for (let at = from - (from % ITEMS); at < last; at += ITEMS) {
      if (!pages.has(at)) pages.set(at, loadPage(at));
      wanted.push(pages.get(at));
    }
    await Promise.all(wanted);
  }

  async function loadPage(at) {
    try {
      const { hits, next_cursor: more } = await listed(at, ITEMS, newest === null ? null : String(newest + 1));
      signal.throwIfAborted();
      hits.forEach((hit, number) => (feed.hits[at + number] = hit));
      if (!more) [feed.done, feed.total] = [!feed.hits.includes(undefined), at + hits.length];
      if (feed.total !== null && feed.hits.length > feed.total) feed.hits.length = feed.total;
      feed.changed();
    } catch (error) {
      pages.delete(at);
      throw error;
    }
  }

  function asked() {
    const body = { parts, modality: query.modality, min_relevance: feed.min };
    if (query.literal.length) body.literal = query.literal;
    if (whereOf(query)) body.where = whereOf(query);
    return body;
  }

  // Where no day lies between two days, nothing is counted: the service has an error for them.
  function bodyOf() {
    if (isSearch) return { ...asked(), group_by_file: query.group };
    const where = whereOf(query);
    return { modality: listedModality(query), ...(where ? { where } : {}) };
  }

  async function searched(k) {
    const started = performance.now();
    const body = { ...asked(), k, group_by_file: query.group, rerank: query.rerank ? "auto" : "none" };
    if (isSorted(query)) body.sort = query.sort;
    if (cursor) body.cursor = cursor;
    const answer = await search(body, signal);
    if (answer.reranked && !cursor) rerankingIsQuick = answer.timings_ms.rerank < QUICK_MS;
    return { ...answer, ms: performance.now() - started };
  }

  // By their addition, pages begin behind the newest item that was shown first: what is added meanwhile
  // moves nothing.
  async function listed(offset, limit, after) {
    const { items: hits, next_cursor } = await items(
      {
        where: whereOf(query),
        cursor: after,
        offset,
        modality: listedModality(query),
        limit,
        order,
      },
      signal,
    );
    if (order === "newest" && offset === 0) newest ??= hits[0]?.item_id ?? null;
    return { hits, next_cursor, ms: null };
  }

  return feed;
}
