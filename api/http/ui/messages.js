// What stands in place of pictures when there are none: why, and what can be done.

import { waysToBegin, waysToCreate } from "./begin.js";
import { byId, element } from "./dom.js";
import { t } from "./i18n.js";

const place = byId("message");
let begun = null;

export function hideMessage() {
  begun = null;
  place.hidden = true;
  place.replaceChildren();
}

export function showMessage(title, detail, action = null, ...more) {
  begun = null;
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

// isWorking: whether a job of the service may fill it now.
export function showEmptyLibrary(isWorking) {
  begin("emptyTitle", isWorking, () => waysToBegin(isWorking));
}

// Before there is a library; health: what the service says of itself then.
export function showNoLibrary(health) {
  begin("noLibraryTitle", health.first_command, () => waysToCreate(health));
}

// Shown again and again while nothing comes: what is there already stays, with the focus on it.
function begin(title, state, waysOf) {
  const beginning = `${t(title)} ${state}`;
  if (begun === beginning) return;
  const { hint, nodes } = waysOf();
  showMessage(t(title), hint, null, ...nodes);
  begun = beginning;
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
