// What the filters can choose from, with counts. Those of a filter that is set are counted without
// it, so that another value can be chosen.

import { facets } from "./api.js";
import { listedModality } from "./feed.js";
import { minRelevanceOf } from "./library.js";
import { OF_FILES, hasNoDay, partsOf, whereOf } from "./query.js";

let running = null;

// Resolves to {years, months, folders, cameras, kinds, collections, columns}. Aborts the request before it.
export async function readFacets(query) {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const ask = (part) => facets(bodyOf({ ...query, ...part }), signal);
  const all = ask({});
  const without = (isSet, part) => (isSet ? ask(part) : all);
  const setColumns = [
    ...Object.keys(query.columns).map((name) => [name, { columns: withoutColumn(query.columns, name) }]),
    ...OF_FILES.filter((name) => query[name]).map((name) => [name, { [name]: "" }]),
  ];
  const [dates, folders, cameras, kinds, collections, told, ...columns] = await Promise.all([
    without(query.from || query.to, { from: "", to: "" }),
    without(query.source, { source: "" }),
    without(query.camera, { camera: "" }),
    without(query.kinds.length, { kinds: [] }),
    without(query.collection, { collection: "" }),
    all,
    ...setColumns.map(([, part]) => ask(part)),
  ]);
  signal.throwIfAborted();
  return {
    years: dates.years,
    months: dates.months,
    folders: folders.folders,
    cameras: cameras.cameras,
    kinds: kinds.kinds,
    collections: collections.collections,
    columns: {
      ...told.columns,
      ...Object.fromEntries(setColumns.map(([name], at) => [name, columns[at].columns[name] ?? []])),
    },
  };
}

export function withoutColumn(columns, name) {
  const { [name]: _old, ...others } = columns;
  return others;
}

// Where no day lies between two days, they are left out: the service has an error for them.
function bodyOf(asked) {
  const query = hasNoDay(asked) ? { ...asked, from: "", to: "" } : asked;
  const body = { modality: listedModality(query) };
  const parts = partsOf(query);
  if (parts.length) Object.assign(body, { parts, min_relevance: minRelevanceOf(query) });
  if (whereOf(query)) body.where = whereOf(query);
  return body;
}
