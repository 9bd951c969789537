// What the library holds, as far as the page needs it: what filters can choose from, how much was
// not read, and from what relevance on a hit is shown unless another is asked for ("auto": the best cut of each query).

import { stats } from "./api.js";
import { isSorted, readText } from "./query.js";

export const library = {
  known: false,
  told: null, // all that the service says of it
  minRelevance: "auto",
  hasPictures: true,
  hasSounds: false,
  kinds: [],
  cameras: [],
  sources: [],
  columns: {},
  failed: 0,
  noted: 0,
  passedOver: { endings: {}, system_folders: {} },
  datedByMtime: 0,
  languages: null,
  canWrite: false,
};

export async function readLibrary() {
  const told = await stats();
  Object.assign(library, {
    known: true,
    told,
    minRelevance: told.default_min_relevance,
    hasPictures: told.images > 0 || (told.texts === 0 && !(told.sounds > 0)),
    hasSounds: told.sounds > 0,
    cameras: told.cameras,
    sources: told.sources,
    columns: told.columns,
    kinds: Object.keys(told.kinds),
    failed: told.files_failed,
    noted: told.files_noted,
    passedOver: told.passed_over,
    datedByMtime: told.files_dated_by_mtime,
    languages: told.languages,
    canWrite: told.scopes.includes("write"),
  });
}

// Pictures alone are not measured by it: what is like a picture is seldom the very same. By date
// or name, though, something has to tell what is like it from the whole library.
export function minRelevanceOf(query) {
  return query.min ?? (readText(query.text).plus || isSorted(query) ? library.minRelevance : 0);
}
