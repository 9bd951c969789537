// What the encoder of the library knows of languages: whether examples in one make sense, and what to say where
// it does not understand the words of a query.

import { byId } from "./dom.js";
import { languageName, languageOfPage, listed, t } from "./i18n.js";
import { library } from "./library.js";

const inPage = (code) => languageName(code, languageOfPage());
const MOST_NAMES = 6;

// Says so below the search field if the language of the words is not known.
export function tellUnknownLanguage(answer) {
  const place = byId("language-note");
  place.hidden = !answer?.unknown_language;
  if (place.hidden) return;
  const names = (library.languages?.known ?? []).slice(0, MOST_NAMES).map(inPage);
  place.textContent = t("languageUnknown", { names: listed(names) });
}

// The language for examples: that of the page where the library knows it, else one that it knows.
export function languageOfIdeas(languages) {
  const declared = library.languages;
  const own = languageOfPage().split("-")[0];
  if (!declared?.are_all || declared.known.includes(own)) return languageOfPage();
  return languages.find((tag) => declared.known.includes(tag.split("-")[0])) ?? null;
}
