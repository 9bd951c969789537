// What stands in place of pictures when there are none: why, and what can be done.

import { byId, element } from "./dom.js";
import { t } from "./i18n.js";

const place = byId("message");

export function hideMessage() {
  place.hidden = true;
  place.replaceChildren();
}

export function showMessage(title, detail, action = null, ...more) {
  const button = action
    ? element("button", { type: "button", class: "button primary", onclick: action.run }, action.text)
    : null;
  place.replaceChildren(
    element("h2", {}, title),
    detail ? element("p", {}, detail) : "",
    ...more,
    button ?? "",
  );
  place.hidden = false;
}

const commandOf = (command) => element("p", {}, element("code", {}, command));

export function showEmptyLibrary() {
  showMessage(t("emptyTitle"), t("emptyHint"), null, commandOf("mmsearch index ~/Pictures"));
}

// Before there is a library; command: what creates it where the service looks for it.
export function showNoLibrary(command) {
  showMessage(t("noLibraryTitle"), t("noLibraryHint"), null, commandOf(command));
}

// Tells what a problem is. Returns after how many seconds it is worth trying again by itself, or
// null where only the user can know.
export function showProblem(problem, retry) {
  const again = { text: t("retry"), run: retry };
  if (problem.status === 503) {
    showMessage(t("startingTitle"), t("startingHint"));
    return 1.5;
  }
  if (problem.status === 0) {
    showMessage(t("unreachableTitle"), t("unreachableHint"), again);
    return 3;
  }
  const title = { 403: "forbiddenTitle", 429: "busyTitle" }[problem.status] ?? "errorTitle";
  showMessage(t(title), problem.message || problem.title, again);
  return null;
}
