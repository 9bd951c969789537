// A message at the bottom that goes by itself, with something that can be done about it, such as undo.

import { element } from "./dom.js";

const SHOWN_MS = 10_000;

const place = element("div", { class: "toast", role: "status", hidden: true });
document.body.append(place);

let timer = null;
let undo = null;

// action: {text, run}
export function tell(text, action = null) {
  const act = async () => {
    hide();
    try {
      await action.run();
    } catch (error) {
      tell(error.message);
    }
  };
  place.replaceChildren(
    element("span", {}, text),
    action ? element("button", { type: "button", class: "button", onclick: act }, action.text) : "",
  );
  undo = action ? act : null;
  place.hidden = false;
  hideLater();
}

function hide() {
  clearTimeout(timer);
  undo = null;
  place.hidden = true;
  place.replaceChildren();
}

// Not while someone is about to use it.
function hideLater() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (place.matches(":hover, :focus-within")) hideLater();
    else hide();
  }, SHOWN_MS);
}

document.addEventListener("keydown", (event) => {
  const isUndo = (event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z";
  if (!isUndo || !undo || event.target.closest?.("input, textarea")) return;
  event.preventDefault();
  undo();
});
