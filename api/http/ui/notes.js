// What of the files was not read: a button that counts it, and a dialog that lists it with reasons.

import * as api from "./api.js";
import { byId, element, fileName, iconButton } from "./dom.js";
import { t } from "./i18n.js";
import { library } from "./library.js";
import { manage } from "./manage.js";
import { button, mayWrite } from "./manage-parts.js";

const LIMITS = [100, 1000, 10_000]; // the last one is the most that the service lists

const dialog = byId("notes");
let running = new AbortController();

const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);

// The button is there only where something was not read.
export function showUnread() {
  const { endings, system_folders } = library.passedOver;
  const counts = [
    ["filesFailed", library.failed],
    ["filesNoted", library.noted],
    ["passedOver", sum(endings) + sum(system_folders)],
  ].filter(([, n]) => n);
  byId("unread").hidden = !counts.length;
  byId("unread").textContent = counts.map(([name, n]) => t(name, { n })).join(" · ");
}

byId("unread").addEventListener("click", () => {
  const lists = element("div", { class: "notes-lists", tabIndex: 0, role: "region", "aria-labelledby": "notes-title" });
  dialog.replaceChildren(
    element(
      "div",
      { class: "notes-head" },
      element("h2", { id: "notes-title" }, t("unreadTitle")),
      iconButton("close", t("close"), () => dialog.close()),
    ),
    lists,
  );
  lists.append(element("p", {}, t("loading")));
  dialog.showModal();
  running = new AbortController();
  list(lists, LIMITS);
});

dialog.addEventListener("close", () => running.abort());
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});

async function list(place, [limit, ...higher]) {
  let told;
  try {
    told = await api.notes(limit, running.signal);
  } catch (error) {
    if (error.name !== "AbortError") place.replaceChildren(element("p", {}, error.message));
    return;
  }
  const { failures, notes, files_failed: failed, files_noted: noted, passed_over: passedOver } = told;
  Object.assign(library, { failed, noted, passedOver });
  showUnread();
  const isCut = failures.length < failed || notes.length < noted;
  place.replaceChildren(
    ...files(t("filesFailed", { n: failed }), failures.map(({ path, reason }) => [path, [reason]])),
    failed && library.told && mayWrite(library.told) ? button(t("problemsMend"), mend) : "",
    ...files(t("filesNoted", { n: noted }), notes.map((file) => [file.path, file.notes])),
    ...passed("otherKinds", passedOver.endings),
    ...passed("systemFolders", passedOver.system_folders),
    library.datedByMtime ? element("p", {}, t("datedByMtime", { n: library.datedByMtime })) : "",
  );
  if (isCut) place.append(higher.length ? moreButton(place, higher) : theRest());
}

function mend() {
  dialog.close();
  manage("problems");
}

// Reasons are in the words of the service, in English.
function files(title, listed) {
  if (!listed.length) return [];
  const rows = listed.map(([path, reasons]) =>
    element(
      "li",
      {},
      element("strong", { dir: "auto" }, fileName(path)),
      ...reasons.map((reason) => element("p", { lang: "en", dir: "auto" }, reason)),
      element("small", { dir: "auto" }, path),
    ),
  );
  return [element("h3", {}, title), element("ul", {}, ...rows)];
}

function passed(name, counts) {
  const found = Object.entries(counts).sort(([, one], [, other]) => other - one);
  if (!found.length) return [];
  const said = found.map(([what, n]) => element("li", { dir: "auto" }, t("withCountOf", { name: what, n })));
  return [element("h3", {}, t(name, { n: sum(counts) })), element("ul", { class: "notes-passed" }, ...said)];
}

function moreButton(place, higher) {
  const show = () => {
    place.focus({ preventScroll: true });
    list(place, higher);
  };
  return element("button", { type: "button", class: "button", onclick: show }, t("more"));
}

const theRest = () =>
  element("p", {}, t("noMoreNotes"), " ", element("code", {}, "mmsearch status --failed --notes"));
