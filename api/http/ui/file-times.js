// When an item begins and ends in its video or sound.

import { clock } from "./i18n.js";

// Whether it is a window of sound, of a sound file or of the sound track of a video.
export const isSound = ({ modality }) => modality === "audio";

// From where on it is played, in seconds.
export const startOf = (item) => item.start_s ?? item.time_s ?? 0;

// What a card says of it, "" where it is no part of a video or sound. A shot is named by the frame that is shown.
export function timeOf(item) {
  if (typeof item.time_s !== "number") return "";
  if (item.modality === "image" || typeof item.end_s !== "number") return clock(item.time_s);
  return spanOf(item);
}

export const spanOf = (item) => `${clock(startOf(item))}–${clock(item.end_s)}`;
