// Files that failed, and those that were read in part: with reasons, and ways to try again.

import * as api from "./api.js";
import { element, fileName } from "./dom.js";
import { t } from "./i18n.js";
import { asking, button, mayWrite, quiet, wrong } from "./manage-parts.js";

const LIMITS = [200, 2000, 10_000]; // the last one is the most that the service lists
const MOST_PATHS = 100; // of one request to index

export async function problemsPanel(place, { signal, goTo }) {
  place.append(quiet(t("loading")));
  let [reason, step] = ["", 0];
  let mayTry = false;

  async function list() {
    try {
      const [told, stats] = await Promise.all([api.notes(LIMITS[step], signal, reason), api.stats(signal)]);
      mayTry = mayWrite(stats);
      if (!signal.aborted) draw(told);
    } catch (error) {
      if (!signal.aborted) place.replaceChildren(wrong(error));
    }
  }

  async function again(paths) {
    await api.index({ retry_failed: true, ...(paths ? { paths } : {}) });
    goTo("jobs");
  }

  function draw(told) {
    const { failures, notes, files_failed: failed, files_noted: noted, passed_over: passed } = told;
    const isCut = failures.length === LIMITS[step] || notes.length === LIMITS[step];
    const nothing = !failed && !noted;
    place.replaceChildren(
      ...(nothing ? [quiet(t("problemsNone"))] : []),
      ...(failed ? failedOnes(told) : []),
      ...(noted
        ? [
            element("h3", {}, t("filesNoted", { n: noted })),
            element("ul", { class: "manage-list" }, ...notes.map((file) => row(file.path, file.notes))),
          ]
        : []),
      ...counted("otherKinds", passed.endings),
      ...counted("systemFolders", passed.system_folders),
    );
    if (isCut && step + 1 < LIMITS.length)
      place.append(
        button(t("more"), () => {
          step += 1;
          list();
          place.focus();
        }),
      );
    else if (isCut)
      place.append(quiet(t("noMoreNotes"), " ", element("code", {}, "mmsearch status --failed --notes")));
  }

  function failedOnes({ failures, reasons, files_failed: failed }) {
    const choice = element(
      "select",
      {
        onchange: (event) => {
          [reason, step] = [event.target.value, 0];
          list().then(() => place.querySelector("select")?.focus());
        },
      },
      element("option", { value: "" }, t("problemsAll", { n: failed })),
      ...Object.entries(reasons).map(([why, n]) =>
        element(
          "option",
          { value: why, selected: why === reason, lang: "en" },
          t("withCount", { name: why, n }),
        ),
      ),
    );
    const tries = reason ? failures.length <= MOST_PATHS && failures.map((file) => file.path) : null;
    const all = button(
      t(reason ? "problemsThese" : "problemsRetryAll"),
      asking(() => again(tries)),
    );
    return [
      element("h3", {}, t("filesFailed", { n: failed })),
      element("label", {}, element("span", { class: "manage-label" }, t("problemsReason")), choice),
      element("div", { class: "manage-row" }, mayTry && tries !== false ? all : ""),
      element(
        "ul",
        { class: "manage-list" },
        ...failures.map((file) => row(file.path, [file.reason], mayTry)),
      ),
    ];
  }

  const row = (path, reasons, canTry = false) =>
    element(
      "li",
      {},
      element(
        "div",
        { class: "manage-line" },
        element("strong", { dir: "auto" }, fileName(path)),
        canTry
          ? element(
              "button",
              {
                type: "button",
                class: "button small",
                "aria-label": t("problemsRetryOne", { name: fileName(path) }),
                onclick: asking(() => again([path])),
              },
              t("retry"),
            )
          : "",
      ),
      ...reasons.map((why) => element("p", { lang: "en", dir: "auto" }, why)),
      element("small", { dir: "auto" }, path),
    );

  await list();
}

function counted(name, counts) {
  const found = Object.entries(counts).sort(([, one], [, other]) => other - one);
  if (!found.length) return [];
  const n = found.reduce((total, [, count]) => total + count, 0);
  return [
    element("h3", {}, t(name, { n })),
    element(
      "ul",
      { class: "manage-passed" },
      ...found.map(([what, many]) =>
        element("li", { dir: "auto" }, t("withCountOf", { name: what, n: many })),
      ),
    ),
  ];
}
