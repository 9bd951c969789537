// Larger renderings of a picture, fetched when it is enlarged beyond what is there: first one by the
// service, then the photo itself, where browsers can show it.

import { element } from "./dom.js";
import { showThumbnail } from "./thumbnails.js";

const FIRST = 1280;
const LARGEST = 2560;
const ENOUGH = 1.15;
const SHOWABLE = /\.(jpe?g|png|webp|avif|gif)$/i;
const MOST_PIXELS = 60e6;

// Returns a function of the scale at which the frame is shown.
export function makeSharper(frame, hit, links, signal) {
  let have = FIRST;
  const longer = Math.max(hit.width ?? 0, hit.height ?? 0);
  // A page can be drawn at any size.
  const most = hit.kind === "document" ? LARGEST : longer;
  const isShowable =
    hit.kind === "image" && !hit.page && SHOWABLE.test(hit.path) && hit.width * hit.height <= MOST_PIXELS;
  return (scale) => {
    const box = Math.max(frame.clientWidth, frame.clientHeight);
    const needed = box * scale * devicePixelRatio;
    if (hit.kind === "video" || needed <= have * ENOUGH || have >= most) return;
    if (have < LARGEST && !(isShowable && needed > LARGEST * ENOUGH)) {
      have = LARGEST;
      put((image) => showThumbnail(image, hit, LARGEST, { lazy: false }));
    } else if (isShowable) {
      have = longer;
      put((image) => showFile(image));
    }
  };

  function put(load) {
    const image = element("img", { class: "sharp", alt: "", "aria-hidden": "true" });
    frame.querySelector("canvas").before(image);
    load(image);
  }

  async function showFile(image) {
    try {
      const { plain } = await links;
      if (signal.aborted) return;
      image.src = plain;
      await image.decode();
      image.classList.add("shown");
    } catch {
      image.remove();
    }
  }
}
