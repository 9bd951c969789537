// What there is of the present query: how many items, of which kinds, with which ratings. Those of a filter
// that is set are counted without it, so that another value can be chosen.

import { facets } from "./api.js";
import { listedModality } from "./feed.js";
import { library, minRelevanceOf } from "./library.js";
import { hasNoDay, partsOf, whereOf } from "./query.js";

let running = null;

// Resolves to {total, isPartial, kinds, hasPlaces, collections, columns, withText}, the last one the number of
// those in whose pictures there is text. Aborts the request before it.
export async function readFacets(query) {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const ask = (part) => facets(bodyOf({ ...query, ...part }), signal);
  const all = ask({});
  const [found, kinds, ratings, collections, withText] = await Promise.all([
    all,
    query.kinds.length ? ask({ kinds: [] }) : all,
    query.rating ? ask({ rating: "" }) : all,
    query.collection ? ask({ collection: "" }) : all,
    // What was recognised is among the texts of a library.
    library.told?.texts && listedModality(query) === "image" && !query.hasText ? ask({ hasText: true }) : all,
  ]);
  signal.throwIfAborted();
  return {
    total: found.total,
    isPartial: found.is_partial,
    kinds: kinds.kinds,
    collections: collections.collections,
    withText: withText === found && !query.hasText ? 0 : withText.total,
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
