// Adding to the library: folders of the machine of the service, and files of one's own.

import * as api from "./api.js";
import { element, icon } from "./dom.js";
import { t } from "./i18n.js";
import { asking, button, command, mayWrite, quiet, wrong } from "./manage-parts.js";
import { uploadSection } from "./uploads.js";

const KINDS = ["image", "video", "audio", "document", "text", "table"];

export async function addPanel(place, { signal, goTo }) {
  place.append(quiet(t("loading")));
  let told;
  try {
    told = await api.stats(signal);
  } catch (error) {
    if (!signal.aborted) place.replaceChildren(wrong(error));
    return;
  }
  if (signal.aborted) return;
  if (!mayWrite(told)) {
    place.replaceChildren(quiet(t("addNotAllowed")), ...sources(told, null));
    return;
  }
  const parts = [element("h3", {}, t("addFolder"))];
  if (told.index_below.length) parts.push(folderForm(told, signal, goTo));
  else
    parts.push(
      quiet(t("addFolderNot")),
      command("mmsearch serve --index-below DIR"),
      quiet(t("beginCommand")),
      command(told.first_command),
    );
  parts.push(element("h3", {}, t("uploadFiles")));
  if (told.uploads) parts.push(uploadSection(told, signal));
  else parts.push(quiet(t("uploadNot")), command("mmsearch serve --uploads DIR"));
  place.replaceChildren(...parts, ...sources(told, goTo));
}

function sources(told, goTo) {
  if (!told.sources.length) return [];
  const missing = new Set(told.missing_sources);
  const again = (paths) =>
    asking(async () => {
      await api.index(paths ? { paths } : {});
      goTo("jobs");
    });
  const rows = told.sources.map((path) =>
    element(
      "li",
      {},
      element(
        "div",
        { class: "manage-line" },
        element("span", { dir: "auto" }, path),
        missing.has(path) ? element("span", { class: "manage-wrong" }, t("sourceMissing")) : "",
        goTo && !missing.has(path)
          ? element(
              "button",
              {
                type: "button",
                class: "button small",
                "aria-label": t("indexAgainOne", { name: path }),
                onclick: again([path]),
              },
              t("indexAgainShort"),
            )
          : "",
      ),
    ),
  );
  return [
    element("h3", {}, t("sources")),
    element("ul", { class: "manage-list" }, ...rows),
    goTo ? element("div", { class: "manage-row" }, button(t("indexAgain"), again(null))) : "",
  ];
}

function folderForm(told, signal, goTo) {
  const path = element("input", {
    type: "text",
    name: "path",
    autocomplete: "off",
    spellcheck: false,
    dir: "auto",
    required: true,
    maxLength: 4096,
  });
  const browser = element("div", { class: "manage-browse" });
  const kinds = KINDS.map((kind) => [
    kind,
    element("input", { type: "checkbox", checked: true, value: kind }),
  ]);
  const hidden = element("input", { type: "checkbox", role: "switch" });
  const readsText = Boolean(told.texts_by?.ocr);
  const ocr = element("input", { type: "checkbox", role: "switch", checked: readsText });
  const submit = element("button", { type: "submit", class: "button primary" }, t("addThisFolder"));
  const form = element(
    "form",
    {},
    element(
      "div",
      { class: "manage-path" },
      element("label", {}, element("span", { class: "manage-label" }, t("addPath")), path),
      submit,
    ),
    browser,
    element(
      "details",
      {},
      element("summary", {}, t("addOptions")),
      element(
        "fieldset",
        {},
        element("legend", {}, t("kind")),
        element(
          "div",
          { class: "options" },
          ...kinds.map(([kind, box]) => element("label", {}, box, element("span", {}, t(`kind_${kind}`)))),
        ),
      ),
      element("label", { class: "switch" }, hidden, element("span", {}, t("addHidden"))),
      told.can_find_text_in_pictures || readsText
        ? element("label", { class: "switch" }, ocr, element("span", {}, t("addOcr")))
        : null,
    ),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    form.querySelector(":scope > [role=alert]")?.remove();
    const chosen = kinds.filter(([, box]) => box.checked).map(([kind]) => kind);
    const body = { paths: [path.value.trim()] };
    if (chosen.length && chosen.length < KINDS.length) body.kinds = chosen;
    if (hidden.checked) body.hidden = true;
    if (ocr.checked !== readsText) body.ocr = ocr.checked;
    submit.disabled = true;
    try {
      await api.index(body);
      goTo("jobs");
    } catch (error) {
      if (error.name !== "AbortError") browser.before(wrong(error));
      form.querySelector("[role=alert]")?.scrollIntoView({ block: "nearest" });
    } finally {
      submit.disabled = false;
    }
  });
  browse(browser, null, path, signal);
  return form;
}

// Lists the folders in one, or those that may be chosen from.
async function browse(place, folder, path, signal) {
  let told;
  try {
    told = await api.folders(folder, signal);
  } catch (error) {
    if (!signal.aborted)
      place.replaceChildren(
        element(
          "div",
          { class: "manage-browse-head" },
          wrong(error),
          folder ? button(t("browseTop"), () => go(null), "small") : "",
        ),
      );
    return;
  }
  if (signal.aborted) return;
  const go = async (to) => {
    if (to) path.value = to;
    await browse(place, to, path, signal);
    place.querySelector("button")?.focus();
  };
  const up = told.path === null ? "" : button(t("browseUp"), () => go(told.parent), "small");
  const here = told.path === null ? t("browseRoots") : t("browseHere", { n: told.files, name: told.path });
  place.replaceChildren(
    element("div", { class: "manage-browse-head" }, element("span", { dir: "auto" }, here), up),
    element(
      "ul",
      { "aria-label": t("browseFolders") },
      ...told.folders.map((one) =>
        element(
          "li",
          {},
          element(
            "button",
            { type: "button", onclick: () => go(one.path) },
            icon("folder"),
            element("span", { dir: "auto" }, one.name),
            one.is_source ? element("small", {}, t("browseKnown")) : "",
          ),
        ),
      ),
    ),
    told.is_cut ? element("div", { class: "manage-browse-head" }, t("browseCut")) : "",
  );
}
