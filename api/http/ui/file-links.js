// Addresses of the file of an item. What a browser loads by itself - a video, a document in a tab of
// its own, a download - cannot send the API key: with one, the service gives an address that needs none.

import { addressOf, fileUrl, hasKey, link } from "./api.js";

// Resolves to {file, download}: to show it, and to save it.
export async function linksTo(hit, signal) {
  const file = hasKey() ? addressOf((await link(hit.item_id, signal)).url) : new URL(fileUrl(hit.item_id), location);
  const download = new URL(file);
  download.searchParams.set("download", "true");
  // The viewers of browsers open a PDF at a page.
  const page = hit.kind === "document" && hit.page ? `#page=${hit.page}` : "";
  return { file: `${pathOf(file)}${page}`, plain: pathOf(file), download: pathOf(download) };
}

const pathOf = ({ pathname, search }) => pathname + search;
