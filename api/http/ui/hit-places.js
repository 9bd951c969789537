// Where a hit stands among the others, and which one comes before or after it. `hits` of a feed may have
// holes, where they are not loaded; `load(from, to)` loads these.

// The most hits that are loaded to find where one stands that a link leads to.
const MOST_LOADED = 1200;

const indexIn = (hits, id) => hits.findIndex((hit) => hit?.item_id === id);

// The pictures, or the texts beside them, whichever an item is among; undefined: it is not loaded.
export const hitsWith = (feed, id) => [feed.hits, feed.passages].find((hits) => indexIn(hits, id) >= 0);

export const hitOf = (feed, id) => hitsWith(feed, id)?.find((hit) => hit?.item_id === id);

// {n, of, more}: the number of a hit, of how many, and whether there may be more; null: it is not loaded.
export function placeOf(feed, id) {
  const hits = hitsWith(feed, id);
  if (!hits) return null;
  const total = hits === feed.hits ? (feed.total ?? null) : hits.length;
  return { n: indexIn(hits, id) + 1, of: Math.max(hits.length, total ?? 0), more: !feed.done && total === null };
}

// Resolves to the hit that comes `by` after one, or undefined.
export async function hitBeside(feed, id, by, load) {
  const hits = hitsWith(feed, id);
  if (!hits) return undefined;
  const at = indexIn(hits, id) + by;
  if (at >= 0 && !hits[at]) await load(at, at + 1);
  return hits[at];
}

// Loads hits until an item is among them, as long as it is `awaited()`; resolves to whether it is.
export async function findHit(feed, id, load, awaited) {
  while (awaited() && !hitsWith(feed, id) && !feed.done && feed.hits.length < MOST_LOADED) {
    const before = feed.hits.length;
    await load(before, before + 1);
    if (feed.hits.length === before) break;
  }
  return awaited() && Boolean(hitsWith(feed, id));
}
