// Pictures of the service in <img> elements. Without a key the browser fetches them by itself, when
// they come near the window. With a key they are fetched here, as an <img> cannot send a header.

import { blob, hasKey } from "./api.js";

const sources = new WeakMap();
const near = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      fetchInto(target, sources.get(target));
    }
  },
  { rootMargin: "800px" },
);

async function fetchInto(image, url) {
  try {
    const address = URL.createObjectURL(await blob(url));
    image.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
    image.src = address;
  } catch {
    image.dispatchEvent(new Event("error"));
  }
}

// The smallest size that is sharp for a picture `height` CSS pixels high.
export function sharpSize(ratio, height) {
  const needed = Math.max(ratio, 1) * height * window.devicePixelRatio;
  return [320, 640, 1280].find((size) => size * 1.2 >= needed) ?? 1280;
}

// hit: a hit or an item. The address that comes with it names the version of its picture, so the
// browser may keep it for ever.
function addressOf(hit, size) {
  const address = new URL(hit.thumbnail ?? `/v1/items/${hit.item_id}/thumbnail`, location.origin);
  address.searchParams.set("size", size);
  address.searchParams.set("format", "webp");
  return address.pathname + address.search;
}

export function showThumbnail(image, hit, size, { lazy = true } = {}) {
  const url = addressOf(hit, size);
  if (!hasKey()) {
    image.loading = lazy ? "lazy" : "eager";
    image.src = url;
  } else if (lazy) {
    sources.set(image, url);
    near.observe(image);
  } else {
    fetchInto(image, url);
  }
}
