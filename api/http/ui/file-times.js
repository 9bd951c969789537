// When an item begins and ends in its video or sound.

import { clock } from "./i18n.js";

// Whether it is a window of sound, of a sound file or of the sound track of a video.
export const isSound = ({ modality }) => modality === "audio";

// From where on it is played, in seconds.
export const startOf = (item) => item.start_s ?? item.time_s ?? 0;

// What a card says of it, "" where it is no part of a video or sound: of a shot, the time of the frame that is
// shown, and of what is said, when that begins.
export function timeOf(item) {
  if (typeof item.time_s !== "number") return "";
  if (isSound(item) && typeof item.end_s === "number") return spanOf(item);
  return clock(item.modality === "text" ? startOf(item) : item.time_s);
}

export const spanOf = (item) => `${clock(startOf(item))}–${clock(item.end_s)}`;
