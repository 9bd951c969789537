// Which moments of a video answer the query best.

import { search } from "./api.js";
import { partsOf, whereOf } from "./query.js";

const MOST = 8;
// Of the relevance of the best one; others are not shown.
const LEAST_SHARE = 0.4;

// Hits in the video or sound of a hit, by time; without a search, none.
export async function momentsOf(query, hit, signal) {
  const parts = partsOf(query);
  if (!parts.length || hit.modality === "text") return [];
  const ofFile = { source: hit.path };
  const where = whereOf(query) ? { and: [whereOf(query), ofFile] } : ofFile;
  const body = { parts, k: MOST, modality: hit.modality, where, min_relevance: 0, rerank: "none" };
  if (query.literal.length) body.literal = query.literal;
  const { hits } = await search(body, signal);
  const least = LEAST_SHARE * Math.max(0, ...hits.map(({ relevance }) => relevance ?? 0));
  return hits
    .filter(({ item_id, time_s, relevance }) => time_s !== null && (item_id === hit.item_id || (relevance ?? 0) >= least))
    .sort((a, b) => a.time_s - b.time_s);
}
