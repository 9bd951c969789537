// What the library holds, as far as the page needs it: what filters can choose from, and from what
// relevance on a hit is shown unless another is asked for.

import { stats } from "./api.js";

export const library = {
  known: false,
  minRelevance: 0,
  kinds: [],
  cameras: [],
  sources: [],
  columns: {},
};

export async function readLibrary() {
  const told = await stats();
  Object.assign(library, {
    known: true,
    minRelevance: told.default_min_relevance ?? 0,
    cameras: told.cameras ?? [],
    sources: told.sources ?? [],
    columns: told.columns ?? {},
    kinds: Object.keys(told.kinds ?? {}),
  });
}
