// The answers to a query, page by page. A new query aborts the previous one.

import { items, search } from "./api.js";
import { library, minRelevanceOf } from "./library.js";
import { hasNoDay, isByDate, partsOf, whereOf } from "./query.js";

const PAGE = 60;
const NOTHING = Object.freeze({ hits: [], next_cursor: null, ms: null });
// Above this, reranking is too slow to be waited for at each keystroke: it then follows when the
// typing has stopped. It is so where the reranker has not seen most images yet.
const QUICK_MS = 200;

let rerankingIsQuick = false;

const running = [];

// What is listed without a search: pictures, or the texts of a library that has no pictures.
export function listedModality({ modality }) {
  if (modality !== "any") return modality;
  return library.hasPictures ? "image" : "text";
}

// Whether a query is better asked without reranking first.
export const isQuickerFirst = (query) => query.rerank && !rerankingIsQuick;

// Returns an object with `next()`, a promise of the next page: {hits, passages, ms, warnings}, where
// passages are texts that were found beside pictures.
// It aborts the feed before it, unless it is to come beside that one.
export function openFeed(query, { beside = false } = {}) {
  const controller = new AbortController();
  if (!beside) for (const other of running.splice(0)) other.abort();
  running.push(controller);
  const { signal } = controller;
  const parts = partsOf(query);
  const isSearch = parts.length > 0;
  let cursor = null;
  const feed = {
    isSearch,
    min: minRelevanceOf(query),
    signal,
    done: false,
    explains: false,
    hits: [],
    passages: [],
    async next() {
      const answer = hasNoDay(query) ? NOTHING : await (isSearch ? searched() : listed());
      signal.throwIfAborted();
      cursor = answer.next_cursor ?? null;
      feed.done = cursor === null;
      feed.explains ||= answer.reranker?.startsWith("fusion") ?? false;
      const isPassage = (hit) => isSearch && query.modality === "any" && hit.modality === "text";
      const passages = answer.hits.filter(isPassage);
      const hits = answer.hits.filter((hit) => !isPassage(hit));
      feed.hits.push(...hits);
      feed.passages.push(...passages);
      return { ...answer, hits, passages };
    },
  };

  async function searched() {
    const started = performance.now();
    const body = {
      parts,
      k: PAGE,
      modality: query.modality,
      min_relevance: feed.min,
      group_by_file: query.group,
      rerank: query.rerank ? "auto" : "none",
    };
    if (isByDate(query)) body.sort = query.sort;
    if (query.literal.length) body.literal = query.literal;
    if (cursor) body.cursor = cursor;
    if (whereOf(query)) body.where = whereOf(query);
    const answer = await search(body, signal);
    if (answer.reranked && !cursor) rerankingIsQuick = answer.timings_ms.rerank < QUICK_MS;
    return { ...answer, ms: performance.now() - started };
  }

  async function listed() {
    const { items: hits, next_cursor } = await items(
      {
        where: whereOf(query),
        cursor,
        modality: listedModality(query),
        limit: PAGE,
        order: isByDate(query) ? query.sort : query.collection ? "collection" : "newest",
      },
      signal,
    );
    return { hits, next_cursor, ms: null };
  }

  return feed;
}
