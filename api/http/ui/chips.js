// The chips below the search field: pictures, sounds and items that are searched with, each wanted or not,
// the words after a minus, the words that were understood as a date, a place or a camera, and the filters.

import { byId, element, icon, iconButton } from "./dom.js";
import { activeFilters } from "./filter-chips.js";
import { number, t } from "./i18n.js";
import { fileAddress } from "./query-files.js";
import { readNear, readText, withoutMinusWord } from "./query.js";
import { showThumbnail } from "./thumbnails.js";

// `change(part of a query)` is called when a chip is switched or removed; `nameOf(item id)` says
// the file name of an item, where it is known; `understood` is that of the answer.
export function showChips(query, { change, nameOf, understood }) {
  const things = query.things.filter((thing) => thing.type === "item" || fileAddress(thing.id));
  const words = readText(query.text).minus;
  const filters = activeFilters(query);
  const list = byId("chips");
  list.hidden = ![things, words, understood, filters].some((part) => part.length) && !query.near;
  list.replaceChildren(
    ...things.map((thing) => thingChip(thing, query, change, nameOf)),
    ...words.map((word) => wordChip(word, query, change)),
    ...(query.near ? [nearChip(query, change)] : []),
    ...understood.map((part) => understoodChip(part, query, change)),
    ...filters.map(([name, part]) => filterChip(name, () => change(part))),
  );
}

function thingChip(thing, query, change, nameOf) {
  const wanted = thing.weight > 0;
  const isSound = thing.type === "sound";
  const name = thing.type === "item" ? nameOf(thing.id) : t(isSound ? "yourSound" : "yourPicture");
  const picture = isSound ? element("span", { class: "chip-sound" }, icon("sound")) : element("img", { alt: "" });
  if (thing.type === "item") showThumbnail(picture, { item_id: thing.id }, 160, { lazy: false });
  else if (!isSound) picture.src = fileAddress(thing.id);
  const replace = (other) =>
    change({ things: query.things.flatMap((each) => (each === thing ? other : [each])) });
  const sign = element(
    "button",
    {
      type: "button",
      class: "chip-sign",
      "aria-label": t(wanted ? "plus" : "minus", { name }),
      title: t(wanted ? "plus" : "minus", { name }),
      onclick: () => replace([{ ...thing, weight: -thing.weight }]),
    },
    wanted ? "+" : "−",
  );
  return element(
    "li",
    { class: wanted ? "chip" : "chip minus" },
    picture,
    sign,
    element("span", { class: "chip-name", dir: "auto" }, name),
    iconButton("close", t("remove", { name }), () => replace([])),
  );
}

function wordChip(word, query, change) {
  const name = t("without", { name: word });
  return element(
    "li",
    { class: "chip minus chip-word" },
    element("span", { class: "chip-name", dir: "auto" }, name),
    iconButton("close", t("remove", { name }), () =>
      change({ text: withoutMinusWord(query.text, word) }),
    ),
  );
}

function filterChip(name, remove) {
  return element(
    "li",
    { class: "chip chip-word filter" },
    element("span", { class: "chip-name", dir: "auto" }, name),
    iconButton("close", t("remove", { name }), remove),
  );
}

function nearChip(query, change) {
  const { latitude, longitude, km } = readNear(query.near);
  const degrees = (value) => number(value, { maximumFractionDigits: 3 });
  const name = t("nearPlace", { km: number(km), place: `${degrees(latitude)}, ${degrees(longitude)}` });
  return element(
    "li",
    { class: "chip chip-word understood" },
    element("span", { class: "chip-name", title: name }, name),
    iconButton("close", t("remove", { name }), () => change({ near: "" })),
  );
}

// Without its chip, the words of a part are searched for as they are.
function understoodChip({ words, kind, label }, query, change) {
  const name = t(`understood_${kind}`, { name: label });
  return element(
    "li",
    { class: "chip chip-word understood" },
    element("span", { class: "chip-name", dir: "auto", title: words }, name),
    iconButton("close", t("asWords", { name: words }), () =>
      change({ literal: [...query.literal, words] }),
    ),
  );
}
