// What can be done with the selected items: a bar at the bottom of the page.

import * as api from "./api.js";
import { showCollections } from "./collections.js";
import { byId, element, iconButton } from "./dom.js";
import { t } from "./i18n.js";
import { library } from "./library.js";
import { clearSelection, deselect, listenToSelection, selectAll, selectedIds } from "./selection.js";
import { tell } from "./toast.js";

const bar = element("section", { class: "selection", id: "selection", hidden: true });
document.body.append(bar);

let page = null;

// page: {loaded(): ids, query(): of the page, leaveOut(ids): returns how to bring them back}
export function listenToSelectionBar(given) {
  page = given;
  listenToSelection({ loaded: page.loaded, onChange: showBar });
}

export function showBar() {
  const ids = selectedIds();
  const focused = bar.contains(document.activeElement) ? document.activeElement.id : null;
  bar.hidden = !ids.length;
  bar.setAttribute("aria-label", t("selection"));
  if (!ids.length) {
    bar.replaceChildren();
    return;
  }
  const { collection, hidden } = page.query();
  bar.replaceChildren(
    iconButton("close", t("selectNone"), clearSelection),
    element("p", { role: "status" }, t("selected", { n: ids.length })),
    action("all", t("selectAll"), selectAll),
    action("download", t("downloadAll"), () => download({ items: ids })),
    ...(library.canWrite
      ? [
          action("add", t("addToCollection"), () => showCollections(ids)),
          ...(collection ? [action("take", t("takeOut"), () => takeOut(ids, collection))] : []),
          action("hide", t(hidden ? "unhide" : "hide"), () => hide(ids, !hidden)),
        ]
      : []),
  );
  if (focused) byId(focused)?.focus();
}

const action = (name, text, onclick) =>
  element("button", { type: "button", class: "button", id: `selection-${name}`, onclick }, text);

// asked: {items} or {collection}. The browser itself saves what it is sent, so that no memory is the limit.
export async function download(asked) {
  try {
    const { url, name } = await (await api.request("/v1/archives", { body: asked })).json();
    element("a", { href: api.addressOf(url).href, download: name }).click();
  } catch (error) {
    tell(error.message);
  }
}

async function hide(ids, isHidden) {
  try {
    await setHidden(ids, isHidden);
  } catch (error) {
    tell(error.message);
    return;
  }
  const bringBack = page.leaveOut(ids);
  deselect(ids);
  tell(t(isHidden ? "wereHidden" : "wereUnhidden", { n: ids.length }), {
    text: t("undo"),
    run: async () => {
      await setHidden(ids, !isHidden);
      bringBack();
    },
  });
}

async function setHidden(ids, isHidden) {
  if (isHidden) await api.request("/v1/hidden", { body: { items: ids } });
  else await deleteEach("/v1/hidden", ids);
}

async function takeOut(ids, name) {
  try {
    const { collections } = await (await api.request("/v1/collections")).json();
    const { id } = collections.find((one) => one.name.toLowerCase() === name.toLowerCase());
    await deleteEach(`/v1/collections/${id}/items`, ids);
    const bringBack = page.leaveOut(ids);
    deselect(ids);
    tell(t("wereTakenOut", { n: ids.length, name }), {
      text: t("undo"),
      run: async () => {
        await api.request(`/v1/collections/${id}/items`, { body: { items: ids } });
        bringBack();
      },
    });
  } catch (error) {
    tell(error.message);
  }
}

const MOST_IN_AN_ADDRESS = 500;

async function deleteEach(path, ids) {
  for (let at = 0; at < ids.length; at += MOST_IN_AN_ADDRESS) {
    const some = ids.slice(at, at + MOST_IN_AN_ADDRESS).map((id) => ["item", id]);
    await api.request(`${path}?${new URLSearchParams(some)}`, { method: "DELETE" });
  }
}
