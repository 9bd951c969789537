// Pictures to search with. They are made small in the browser, so that each search sends little, and
// are stored until the window closes, so that going back and reloading find them again.

import { session } from "./storage.js";

const LONGER_SIDE = 768;
const DECODED_BY_BROWSERS = /^image\//;

const known = new Map();

// Returns the name under which the picture is known. Raises what the browser raises for a file that
// is no picture.
export async function addPicture(file) {
  if (!DECODED_BY_BROWSERS.test(file.type)) throw new TypeError("no picture");
  const name = crypto.getRandomValues(new Uint32Array(1))[0].toString(36);
  const address = await small(file);
  known.set(name, address);
  session.set(`picture-${name}`, address);
  return name;
}

// A data URL, or null where the picture was added in another window.
export function pictureAddress(name) {
  return known.get(name) ?? session.get(`picture-${name}`);
}

export const pictureBase64 = (name) => pictureAddress(name)?.split(",")[1] ?? null;

async function small(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, LONGER_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.toDataURL("image/jpeg", 0.9);
}
