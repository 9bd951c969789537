// Collections and saved searches: the dialog that lists them, and the heading of an open collection.

import * as api from "./api.js";
import { byId, element, iconButton } from "./dom.js";
import { number, t } from "./i18n.js";
import { library } from "./library.js";
import { EMPTY, fromAddress, toAddress } from "./query.js";
import { download } from "./selection-bar.js";
import { clearSelection } from "./selection.js";
import { tell } from "./toast.js";

const MOST_IN_A_REQUEST = 10_000;

const dialog = element("dialog", { class: "notes collections", id: "collections", "aria-labelledby": "collections-title" });
const head = element("section", { class: "collection-head", id: "collection-head", hidden: true });
document.body.append(dialog);
byId("status-row").before(head);

let page = null;

// page: {open(query)}: shows another query.
export function listenToCollections(given) {
  page = given;
  byId("collections-button").addEventListener("click", () => showCollections());
}

export const read = async (path) => (await api.request(path)).json();
const write = async (path, options) => {
  const answer = await api.request(path, options);
  return answer.status === 204 ? null : answer.json();
};

dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});

// ids: items to add to the one that is chosen; without them, the chosen one is opened.
export async function showCollections(ids = null) {
  const lists = element("div", { class: "notes-lists", role: "region", "aria-labelledby": "collections-title", tabIndex: 0 });
  const title = ids ? t("addItems", { n: ids.length }) : t("collections");
  dialog.replaceChildren(
    element(
      "div",
      { class: "notes-head" },
      element("h2", { id: "collections-title" }, title),
      iconButton("close", t("close"), () => dialog.close()),
    ),
    lists,
  );
  lists.append(element("p", {}, t("loading")));
  if (!dialog.open) dialog.showModal();
  try {
    const [{ collections }, { searches }] = await Promise.all([read("/v1/collections"), read("/v1/searches")]);
    lists.replaceChildren(
      library.canWrite ? newCollection(ids) : "",
      collections.length
        ? element("ul", {}, ...collections.map((one) => (ids ? target(one, ids) : entry(one))))
        : element("p", {}, t("noCollections")),
      ...(ids ? [] : [...saved(searches), hiddenEntry()]),
    );
    lists.querySelector("input, .collection-open")?.focus({ preventScroll: true });
  } catch (error) {
    lists.replaceChildren(element("p", {}, error.message));
  }
}

function newCollection(ids) {
  const field = element("input", {
    type: "text",
    id: "collection-name",
    maxlength: "200",
    autocomplete: "off",
    required: true,
    "aria-label": t("newCollection"),
    placeholder: t("newCollection"),
  });
  const form = element(
    "form",
    { class: "collection-new" },
    field,
    element("button", { type: "submit", class: "button primary" }, t("create")),
  );
  const problem = element("p", { class: "collection-problem", role: "alert" });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const made = await write("/v1/collections", { body: { name: field.value } });
      if (ids) await add(made, ids);
      else await showCollections();
    } catch (error) {
      problem.textContent = error.message;
    }
  });
  return element("div", {}, form, problem);
}

function target(collection, ids) {
  return element(
    "li",
    {},
    element(
      "button",
      { type: "button", class: "collection-open", onclick: () => add(collection, ids) },
      named(collection.name, collection.items),
    ),
  );
}

async function add(collection, ids) {
  try {
    for (let at = 0; at < ids.length; at += MOST_IN_A_REQUEST) {
      const items = ids.slice(at, at + MOST_IN_A_REQUEST);
      await write(`/v1/collections/${collection.id}/items`, { body: { items } });
    }
  } catch (error) {
    dialog.close();
    tell(error.message);
    return;
  }
  dialog.close();
  clearSelection();
  tell(t("wereAdded", { n: ids.length, name: collection.name }), {
    text: t("openIt"),
    run: () => page.open({ ...EMPTY, collection: collection.name }),
  });
}

function entry(collection) {
  return element(
    "li",
    {},
    openButton({ ...EMPTY, collection: collection.name }, named(collection.name, collection.items)),
  );
}

// A link, so that it can be opened in a window of its own, and copied.
function openButton(query, content) {
  return element(
    "a",
    {
      class: "collection-open",
      href: toAddress(query),
      onclick: (event) => {
        if (event.metaKey || event.ctrlKey || event.shiftKey) return;
        event.preventDefault();
        dialog.close();
        page.open(query);
      },
    },
    content,
  );
}

const named = (name, n) =>
  element("span", {}, element("strong", { dir: "auto" }, name), " ", element("small", {}, number(n)));

function saved(searches) {
  const shown = searches.filter((search) => search.address !== null);
  if (!shown.length) return [];
  return [
    element("h3", {}, t("savedSearches")),
    element(
      "ul",
      {},
      ...shown.map((search) =>
        element(
          "li",
          { class: "collection-row" },
          openButton(fromAddress(search.address), element("strong", { dir: "auto" }, search.name)),
          library.canWrite
            ? iconButton("close", t("deleteNamed", { name: search.name }), async () => {
                await write(`/v1/searches/${search.id}`, { method: "DELETE" }).catch((error) => tell(error.message));
                showCollections();
              })
            : null,
        ),
      ),
    ),
  ];
}

function hiddenEntry() {
  return element(
    "ul",
    { class: "collection-hidden" },
    element("li", {}, openButton({ ...EMPTY, hidden: "1" }, element("strong", {}, t("hiddenItems")))),
  );
}

// ---- The heading of an open collection

export function showHead(query) {
  head.hidden = !query.collection && !query.hidden;
  const focused = head.contains(document.activeElement) ? document.activeElement.id : null;
  head.replaceChildren(
    ...(head.hidden
      ? []
      : [
          element("h2", { dir: "auto" }, query.collection || t("hiddenItems")),
          element("div", { class: "collection-actions" }, ...(query.collection ? actions(query.collection) : []), leave(query)),
        ]),
  );
  if (focused) byId(focused)?.focus();
}

const button = (id, text, onclick) => element("button", { type: "button", class: "button", id, onclick }, text);

function actions(name) {
  const always = [
    button("collection-download", t("downloadAll"), () => download({ collection: name })),
    button("collection-link", t("copyLink"), () => copy(new URL(toAddress({ ...EMPTY, collection: name }), location.href).href)),
  ];
  if (!library.canWrite) return always;
  return [
    ...always,
    button("collection-rename", t("rename"), () => rename(name)),
    button("collection-delete", t("delete"), () => remove(name)),
  ];
}

const leave = (query) =>
  iconButton("close", t("leaveCollection"), () => page.open({ ...query, collection: "", hidden: "" }));

async function idOf(name) {
  const { collections } = await read("/v1/collections");
  const found = collections.find((one) => one.name.toLowerCase() === name.toLowerCase());
  if (!found) throw new Error(t("noSuchCollection", { name }));
  return found.id;
}

export function askName(title, value, action, run) {
  const field = element("input", { type: "text", id: "name-field", maxlength: "200", autocomplete: "off", required: true, value, "aria-labelledby": "collections-title" });
  const problem = element("p", { class: "collection-problem", role: "alert" });
  const form = element(
    "form",
    { class: "collection-new" },
    field,
    element("button", { type: "submit", class: "button primary" }, action),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await run(field.value);
      dialog.close();
    } catch (error) {
      problem.textContent = error.message;
    }
  });
  dialog.replaceChildren(
    element(
      "div",
      { class: "notes-head" },
      element("h2", { id: "collections-title" }, title),
      iconButton("close", t("close"), () => dialog.close()),
    ),
    element("div", { class: "notes-lists" }, form, problem),
  );
  if (!dialog.open) dialog.showModal();
  field.select();
}

function rename(name) {
  askName(t("renameCollection"), name, t("rename"), async (given) => {
    const made = await write(`/v1/collections/${await idOf(name)}`, { method: "PATCH", body: { name: given } });
    page.open({ ...EMPTY, collection: made.name });
  });
}

function remove(name) {
  dialog.replaceChildren(
    element(
      "div",
      { class: "notes-head" },
      element("h2", { id: "collections-title" }, t("deleteCollection", { name })),
      iconButton("close", t("close"), () => dialog.close()),
    ),
    element(
      "div",
      { class: "notes-lists" },
      element("p", {}, t("deleteHint")),
      button("collection-delete-yes", t("delete"), async () => {
        dialog.close();
        try {
          await write(`/v1/collections/${await idOf(name)}`, { method: "DELETE" });
          page.open({ ...EMPTY });
          tell(t("wasDeleted", { name }));
        } catch (error) {
          tell(error.message);
        }
      }),
    ),
  );
  dialog.showModal();
}

// Without a safe origin there is no clipboard but that of old.
export async function copy(text) {
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else copyOfOld(text);
    tell(t("copied"));
  } catch {
    tell(text);
  }
}

function copyOfOld(text) {
  const field = element("textarea", { class: "unseen" });
  field.value = text;
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  if (!isCopied) throw new Error("not copied");
}
