// Pictures of the service in <img> elements, fetched when they come near the window.

import { addressOf, blob, hasKey, pause } from "./api.js";

const TRIES = 4;

const sources = new WeakMap();
const waiting = new Set();
let isHurried = false;
const near = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      if (isHurried) waiting.add(target);
      else load(target, sources.get(target));
    }
  },
  { rootMargin: "700px" },
);

// While everything rushes by, no picture is fetched; then, those that are still there.
export function hurry(is) {
  isHurried = is;
  if (is) return;
  for (const image of waiting) if (image.isConnected) load(image, sources.get(image));
  waiting.clear();
}

// The picture went out of sight; one that has not come yet is not waited for.
export function dropThumbnail(image) {
  near.unobserve(image);
  waiting.delete(image);
  if (image.matches(".shown, .broken")) return;
  image.removeAttribute("src");
  image.dataset.dropped = "";
}

// A picture that was dropped is in the document again.
export function returnThumbnail(image) {
  if (!("dropped" in image.dataset)) return;
  delete image.dataset.dropped;
  near.observe(image);
}

// The smallest size that is sharp for a picture `height` CSS pixels high.
export function sharpSize(ratio, height) {
  const needed = Math.max(ratio, 1) * height * window.devicePixelRatio;
  return [320, 640, 1280].find((size) => size * 1.2 >= needed) ?? 1280;
}

// hit: a hit or an item. An image gets the class "shown" or, if there is no picture, "broken".
export function showThumbnail(image, hit, size, { lazy = true } = {}) {
  sources.set(image, addressOfPicture(hit, size));
  if (lazy) near.observe(image);
  else load(image, sources.get(image));
}

// The address that comes with a hit names the version of its picture, so that the browser may keep it
// for ever.
function addressOfPicture(hit, size) {
  const address = addressOf(hit.thumbnail ?? `/v1/items/${hit.item_id}/thumbnail`);
  address.searchParams.set("size", size);
  address.searchParams.set("format", "webp");
  return address.href;
}

// Scrolling far asks for more pictures at once than a service may allow: then again, a little later.
async function load(image, address) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await (hasKey() ? fetchInto(image, address) : point(image, address));
      image.classList.add("shown");
      return;
    } catch {
      if ("dropped" in image.dataset || !image.isConnected) return;
      if (attempt === TRIES) break;
      await pause(attempt * 0.7);
    }
  }
  image.classList.add("broken");
}

async function point(image, address) {
  image.removeAttribute("src");
  image.src = address;
  await image.decode();
}

// An <img> cannot send the key.
async function fetchInto(image, address) {
  const local = URL.createObjectURL(await blob(address));
  try {
    await point(image, local);
  } finally {
    URL.revokeObjectURL(local);
  }
}
