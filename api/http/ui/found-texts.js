// What models found in an item: text in its picture, what is said in its sound, and captions that they wrote.

import { textsOfItem } from "./api.js";
import { drawBoxes } from "./boxes.js";
import { copy } from "./clipboard.js";
import { element } from "./dom.js";
import { t } from "./i18n.js";
import { finderOf, marked } from "./query-words.js";
import { local } from "./storage.js";
import { showTranscript } from "./transcript.js";

const COPIED_MS = 2000;
// From the moment of a video whose picture was read.
const NEAR_S = 0.2;

// Shows them in a section of the viewer, with the boxes of recognised text over the frame of the picture. `words`:
// those of the query. `player`: of a video or sound, or null. Resolves to a function that switches all boxes on
// or off, or null where there are none; it tells `switched(isOn)`.
export async function showFoundTexts(section, { hit, frame, words, player, switched, signal }) {
  let texts;
  try {
    ({ texts } = await textsOfItem(hit.item_id, signal));
  } catch {
    return null; // the item is there without them
  }
  if (signal.aborted) return null;
  const find = finderOf(words);
  const of = (task) => texts.filter((found) => found.task === task && found.text);
  const recognised = of("ocr");
  const lines = recognised.flatMap(({ segments }) => segments);
  const boxes = frame && lines.some(({ box }) => box) ? drawBoxes(frame, lines) : null;
  section.replaceChildren(
    ...of("caption").map((caption) => generated(caption, find)),
    ...(recognised.length ? [panel(recognised, lines, find, boxes)] : []),
  );
  for (const spoken of of("speech")) showTranscript(section, spoken, find, player, hit);
  if (!boxes) return null;
  boxes.find(numbersOf(lines, find, hit));
  if (player) hideElsewhere(frame, player, hit);
  return switchOf(boxes, player, hit, switched);
}

// Lines with words of the query; else, those of the passage that was found, by its meaning.
function numbersOf(lines, find, hit) {
  const numbers = (test) => new Set(lines.flatMap(({ text }, number) => (test(text) ? [number] : [])));
  const withWords = numbers((text) => find(text).length);
  if (withWords.size || !hit.text) return withWords;
  const passage = oneSpaced(hit.text);
  return numbers((text) => passage.includes(oneSpaced(text)));
}

const oneSpaced = (text) => text.replace(/\s+/g, " ").trim();

// The picture that boxes lie on is one moment of a video.
function hideElsewhere(frame, player, hit) {
  const place = () =>
    frame.classList.toggle("away", !player.paused || Math.abs(player.currentTime - (hit.time_s ?? 0)) > NEAR_S);
  for (const name of ["play", "pause", "seeked"]) player.addEventListener(name, place);
  place();
}

function switchOf(boxes, player, hit, switched) {
  let isOn = false;
  const show = (on) => {
    isOn = on;
    boxes.all(on);
    switched(on);
  };
  show(local.get("boxes") === "on");
  return () => {
    show(!isOn);
    local.set("boxes", isOn ? "on" : "off");
    if (!isOn || !player) return;
    player.pause();
    player.currentTime = hit.time_s ?? 0;
  };
}

// A caption that nobody wrote.
function generated({ text, model }, find) {
  return element(
    "section",
    { class: "generated" },
    element("h3", {}, t("captionGenerated")),
    element("p", { dir: "auto" }, ...marked(text, find(text))),
    element("small", { class: "hint" }, t("generatedBy", { name: model })),
  );
}

function panel(recognised, lines, find, boxes) {
  const list = element(
    "ul",
    { class: "found-lines", dir: "auto", tabIndex: 0, "aria-label": t("foundText") },
    ...lines.map(({ text }, number) => {
      const line = element("li", {}, ...marked(text, find(text)));
      line.addEventListener("pointerenter", () => boxes?.point(number));
      line.addEventListener("pointerleave", () => boxes?.point(null));
      return line;
    }),
  );
  const said = element("span", { "aria-live": "polite" }, t("copyText"));
  const button = element(
    "button",
    {
      type: "button",
      class: "button",
      "data-name": "copy-text",
      onclick: async () => {
        const isCopied = await copy(recognised.map(({ text }) => text).join("\n"), section.closest("dialog"));
        said.textContent = t(isCopied ? "copied" : "copiedNot");
        setTimeout(() => (said.textContent = t("copyText")), COPIED_MS);
      },
    },
    said,
  );
  const section = element("section", { class: "found-text" }, element("h3", {}, t("foundText")), list, button);
  return section;
}
