// What there is of the present query: how many items, of which kinds, with which ratings. Those of a filter
// that is set are counted without it, so that another value can be chosen.

import { facets } from "./api.js";
import { listedModality } from "./feed.js";
import { minRelevanceOf } from "./library.js";
import { hasNoDay, partsOf, whereOf } from "./query.js";

let running = null;

// Resolves to {total, isPartial, kinds, hasPlaces, collections, columns}. Aborts the request before it.
export async function readFacets(query) {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const ask = (part) => facets(bodyOf({ ...query, ...part }), signal);
  const all = ask({});
  const [found, kinds, ratings, collections] = await Promise.all([
    all,
    query.kinds.length ? ask({ kinds: [] }) : all,
    query.rating ? ask({ rating: "" }) : all,
    query.collection ? ask({ collection: "" }) : all,
  ]);
  signal.throwIfAborted();
  return {
    total: found.total,
    isPartial: found.is_partial,
    kinds: kinds.kinds,
    collections: collections.collections,
    hasPlaces: found.places.length > 0,
    columns: { ...found.columns, rating: ratings.columns.rating ?? [] },
  };
}

// Where no day lies between two days, they are left out: the service has an error for them.
export function bodyOf(asked) {
  const query = hasNoDay(asked) ? { ...asked, from: "", to: "" } : asked;
  const body = { modality: listedModality(query) };
  const parts = partsOf(query);
  if (parts.length) Object.assign(body, { parts, min_relevance: minRelevanceOf(query) });
  if (query.literal.length && parts.length) body.literal = query.literal;
  if (whereOf(query)) body.where = whereOf(query);
  return body;
}
