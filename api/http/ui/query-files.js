// Pictures, sounds and videos to search with. They are made small in the browser, so that each search sends
// little, and are stored until the window closes, so that going back and reloading find them again.

import { session } from "./storage.js";

const LONGER_SIDE = 768;
// Of a sound, what an encoder hears in about two glances.
const [SOUND_S, SAMPLES_A_S] = [20, 24_000];
const WAV_HEADER_BYTES = 44;
// More of a file is decoded only if these first bytes cannot be, as of some MP4 files.
const [FIRST_BYTES, MOST_BYTES] = [8e6, 64e6];
const PATIENCE_MS = 10_000;

const known = new Map();

// Returns {type, id}: "picture" or "sound", and the name under which it is known. Of a video, it is the picture in
// its middle. Raises what the browser raises for a file that it cannot read; `withSound`: whether sounds are taken.
export async function addFile(file, withSound) {
  const kind = file.type.split("/")[0];
  if (kind === "image") return store("picture", small(await createImageBitmap(file)));
  if (kind === "video") {
    const frame = await middleOf(file).catch(() => null);
    if (frame) return store("picture", small(frame));
  }
  if (withSound && ["audio", "video"].includes(kind)) return store("sound", await addressOfBlob(await short(file)));
  throw new TypeError("no picture and no sound");
}

function store(type, address) {
  const id = crypto.getRandomValues(new Uint32Array(1))[0].toString(36);
  known.set(id, address);
  session.set(`picture-${id}`, address);
  return { type, id };
}

// A data URL, or null where the file was added in another window.
export function fileAddress(id) {
  return known.get(id) ?? session.get(`picture-${id}`);
}

export const fileBase64 = (id) => fileAddress(id)?.split(",")[1] ?? null;

// A data URL of a picture of at most so many pixels.
function small(bitmap) {
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

// The picture in the middle of a video.
async function middleOf(file) {
  const video = document.createElement("video");
  const address = URL.createObjectURL(file);
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const event = (name) =>
    new Promise((resolve, reject) => {
      video.addEventListener(name, resolve, { once: true });
      video.addEventListener("error", reject, { once: true });
      signal.addEventListener("abort", reject, { once: true });
    });
  try {
    const isReady = event("loadeddata");
    Object.assign(video, { muted: true, preload: "auto", src: address });
    await isReady;
    if (Number.isFinite(video.duration)) {
      const isThere = event("seeked");
      video.currentTime = video.duration / 2;
      await isThere;
    }
    return await createImageBitmap(video);
  } finally {
    video.removeAttribute("src");
    URL.revokeObjectURL(address);
  }
}

// The beginning of a sound as a WAV file, mono.
async function short(file) {
  const reader = new OfflineAudioContext(1, 1, SAMPLES_A_S);
  const decode = async (part) => reader.decodeAudioData(await part.arrayBuffer());
  const decoded = await decode(file.slice(0, FIRST_BYTES)).catch((error) => {
    if (file.size <= FIRST_BYTES || file.size > MOST_BYTES) throw error;
    return decode(file);
  });
  const length = Math.max(1, Math.ceil(Math.min(SOUND_S, decoded.duration) * SAMPLES_A_S));
  const mixer = new OfflineAudioContext(1, length, SAMPLES_A_S);
  const source = new AudioBufferSourceNode(mixer, { buffer: decoded });
  source.connect(mixer.destination);
  source.start();
  return wav((await mixer.startRendering()).getChannelData(0));
}

// samples: from -1 to 1. Header and samples of 16 bits are little-endian.
function wav(samples) {
  const bytes = new DataView(new ArrayBuffer(WAV_HEADER_BYTES + 2 * samples.length));
  const write = (at, text) => [...text].forEach((letter, n) => bytes.setUint8(at + n, letter.charCodeAt(0)));
  write(0, "RIFF");
  bytes.setUint32(4, bytes.byteLength - 8, true);
  write(8, "WAVEfmt ");
  bytes.setUint32(16, 16, true);
  bytes.setUint16(20, 1, true); // PCM
  bytes.setUint16(22, 1, true); // mono
  bytes.setUint32(24, SAMPLES_A_S, true);
  bytes.setUint32(28, 2 * SAMPLES_A_S, true);
  bytes.setUint16(32, 2, true);
  bytes.setUint16(34, 16, true);
  write(36, "data");
  bytes.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, n) => {
    bytes.setInt16(WAV_HEADER_BYTES + 2 * n, Math.round(32767 * Math.min(1, Math.max(-1, value))), true);
  });
  return new Blob([bytes], { type: "audio/wav" });
}

function addressOfBlob(blob) {
  const reader = new FileReader();
  return new Promise((resolve, reject) => {
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
