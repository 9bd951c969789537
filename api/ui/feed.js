// The answers to one question, page by page. A new question aborts the one before it.

import { items, search } from "./api.js";
import { library } from "./library.js";
import { partsOf, whereOf } from "./question.js";

const PAGE = 60;
// As-you-type answers should not wait long for images that no reranker has seen yet.
const RERANK_BUDGET_MS = 600;

let running = new AbortController();

export function abortFeed() {
  running.abort();
}

// Returns an object with `next()`, a promise of the next page {hits, ms, filtered}, and `done`.
export function openFeed(question) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const parts = partsOf(question);
  const isSearch = parts.length > 0;
  let cursor = null;
  const feed = {
    isSearch,
    min: question.min ?? library.minRelevance,
    signal,
    done: false,
    explains: false,
    hits: [],
    async next() {
      const answer = isSearch ? await searched() : await listed();
      signal.throwIfAborted();
      cursor = answer.next_cursor ?? null;
      feed.done = cursor === null;
      feed.explains ||= answer.reranker?.startsWith("fusion") ?? false;
      feed.hits.push(...answer.hits);
      return answer;
    },
  };

  async function searched() {
    const started = performance.now();
    const body = {
      parts,
      k: PAGE,
      modality: question.modality,
      min_relevance: feed.min,
      group_by_file: question.group,
      rerank: question.rerank ? "auto" : "none",
      rerank_budget_ms: RERANK_BUDGET_MS,
    };
    if (cursor) body.cursor = cursor;
    if (whereOf(question)) body.where = whereOf(question);
    const answer = await search(body, signal);
    return { ...answer, ms: performance.now() - started };
  }

  async function listed() {
    const { items: hits, next_cursor } = await items(
      { where: whereOf(question), cursor, modality: question.modality, limit: PAGE },
      signal,
    );
    return { hits, next_cursor, ms: null };
  }

  return feed;
}
