// A passage of a text between its neighbours, and the pages before and after one.

import { neighbours } from "./api.js";
import { element } from "./dom.js";
import { t } from "./i18n.js";

const STEP = 2;
const HAS_NEIGHBOURS = new Set(["document", "text"]);

// The passage, with what stands before and after it in its file as soon as that is known.
export function showPassage(hit, signal) {
  const mark = element("mark", { class: "passage-found" }, hit.text ?? "");
  const text = element("blockquote", { class: "viewer-chunk", dir: "auto", tabIndex: 0 }, mark);
  if (HAS_NEIGHBOURS.has(hit.kind)) {
    extend(text, hit, "before", hit, signal);
    extend(text, hit, "after", hit, signal);
  }
  return text;
}

// Adds the nearest passages on one side of `edge`, and a button for more.
async function extend(text, hit, side, edge, signal) {
  const count = side === "before" ? { before: STEP + 1, after: 0 } : { before: 0, after: STEP + 1 };
  let found;
  try {
    found = (await neighbours(edge.item_id, count, signal))[side];
  } catch {
    return; // the passage itself is there
  }
  if (signal.aborted || !found.length) return;
  const near = side === "before" ? found.slice(-STEP) : found.slice(0, STEP);
  const all = side === "before" ? [...near, edge] : [edge, ...near];
  const parts = near.map((chunk) => {
    const at = all.indexOf(chunk);
    const other = side === "before" ? all[at + 1] : all[at - 1];
    const whole = side === "before" ? before(chunk.text, other.text) : after(other.text, chunk.text);
    const page = chunk.page && chunk.page !== other.page ? chunk.page : null;
    return element(
      "span",
      { class: "passage-near" },
      page && side === "after" ? pageMark(page) : null,
      whole,
      page && side === "before" ? pageMark(other.page) : null,
    );
  });
  const height = text.scrollHeight;
  const furthest = side === "before" ? near[0] : near.at(-1);
  const more =
    found.length > STEP
      ? element(
          "button",
          {
            type: "button",
            class: "button passage-more",
            onclick: () => {
              more.remove();
              extend(text, hit, side, furthest, signal);
            },
          },
          t(side === "before" ? "readBefore" : "readAfter"),
        )
      : null;
  if (side === "before") {
    text.prepend(...[more, ...parts].filter(Boolean));
    text.scrollTop += text.scrollHeight - height; // what is being read stays where it is
  } else {
    text.append(...[...parts, more].filter(Boolean));
  }
}

const pageMark = (n) => element("small", { class: "passage-page" }, t("page", { n }));

// Neighbours may share a sentence, which is shown once. Shorter texts are alike by chance.
const LEAST_SHARED = 12;

// The length of the longest end of one text that the next one begins with.
function shared(text, next) {
  for (let length = Math.min(text.length, next.length); length >= LEAST_SHARED; length -= 1) {
    if (text.endsWith(next.slice(0, length))) return length;
  }
  return 0;
}

// What lies between two texts that share nothing: one may go on in the middle of a sentence.
const gap = (text) => (/[.!?:。！？：]["”’」』)）]*\s*$/u.test(text) ? "\n" : " ");

function before(text, next) {
  const length = shared(text, next);
  return length ? text.slice(0, -length) : text + gap(text);
}

function after(text, next) {
  const length = shared(text, next);
  return length ? next.slice(length) : gap(text) + next;
}

// Buttons to the pages before and after a page of a document. `show(hit)`. Resolves when they are there.
export async function showPages(section, hit, show, signal) {
  let found;
  try {
    found = await neighbours(hit.item_id, { before: 1, after: 1 }, signal);
  } catch {
    return;
  }
  const [before, after] = [found.before.at(-1), found.after[0]];
  if (signal.aborted || !(before || after)) return;
  const button = (item, name) =>
    item &&
    element(
      "button",
      { type: "button", class: "button", "data-name": `page-${name}`, onclick: () => show(item) },
      t(`page_${name}`, { n: item.page }),
    );
  section.replaceChildren(
    element("div", { class: "viewer-actions" }, button(before, "before") ?? null, button(after, "after") ?? null),
  );
}
