// The keys of the page, in a dialog that "?" opens.

import { byId, element, iconButton } from "./dom.js";
import { t } from "./i18n.js";

// Each group: the name of its title, and pairs of keys and the name of what they do.
export const KEYS = [
  [
    "keysPage",
    [
      [["/"], "keySearch"],
      [["←", "→", "↑", "↓"], "keyMove"],
      [["Enter"], "keyOpen"],
      [["Esc"], "keyLeave"],
      [["?"], "keyHelp"],
    ],
  ],
  [
    "keysViewer",
    [
      [["←", "→"], "keyStep"],
      [["+", "-"], "keyZoom"],
      [["0"], "keyFit"],
      [["T"], "keyBoxes"],
      [["F"], "keyFull"],
      [["S"], "keySlideshow"],
      [["D"], "keyDownload"],
      [["C"], "keyCopy"],
      [["K", "M"], "keyPlay"],
    ],
  ],
];

const dialog = byId("keys");

export function showKeys() {
  dialog.replaceChildren(
    element(
      "div",
      { class: "notes-head" },
      element("h2", { id: "keys-title" }, t("keys")),
      iconButton("close", t("close"), () => dialog.close()),
    ),
    element(
      "div",
      { class: "notes-lists" },
      ...KEYS.map(([title, keys]) =>
        element(
          "section",
          {},
          element("h3", {}, t(title)),
          element(
            "dl",
            { class: "keys-list" },
            ...keys.flatMap(([names, does]) => [
              element("dt", {}, ...names.map((name) => element("kbd", {}, name))),
              element("dd", {}, t(does)),
            ]),
          ),
        ),
      ),
    ),
  );
  dialog.showModal();
}

dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
// Keys that are pressed here are not for the viewer below.
dialog.addEventListener("keydown", (event) => event.stopPropagation());

const isTyping = (target) => target.closest?.("input, textarea, select, [contenteditable]");

addEventListener("keydown", (event) => {
  if (event.key !== "?" || event.altKey || event.ctrlKey || event.metaKey || isTyping(event.target)) return;
  event.preventDefault();
  if (!dialog.open) showKeys();
});
