// Copying texts. Browsers have a clipboard for pages that came by https or from this machine; of others
// they still copy what is selected.

import { element } from "./dom.js";

// Returns whether it was copied. `place` is where a field may stand for a moment: in the open dialog.
export async function copy(text, place) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text, place);
  }
}

function copySelected(text, place) {
  const focused = document.activeElement;
  const field = element("textarea", { class: "unseen", readOnly: true, "aria-hidden": "true" }, text);
  place.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  focused?.focus({ preventScroll: true });
  return copied;
}
