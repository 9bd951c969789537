// Pictures, sounds and videos that are dropped on the page, pasted, or picked from the disk.

import { byId } from "./dom.js";

// `take(file)` is called for each, unless `takesDrop(event)` has taken what was dropped.
export function listenForFiles(take, takesDrop = () => false) {
  const curtain = byId("drop");
  let depth = 0;
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  const lift = () => {
    depth = 0;
    curtain.hidden = true;
  };
  document.addEventListener("dragenter", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth += 1;
    curtain.hidden = false;
  });
  document.addEventListener("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault();
  });
  document.addEventListener("dragleave", () => {
    depth -= 1;
    if (depth <= 0) lift();
  });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    lift();
    if (takesDrop(event)) return;
    for (const file of event.dataTransfer.files) take(file);
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    for (const file of files) take(file);
  });
  const input = byId("file");
  byId("pick").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    for (const file of input.files) take(file);
    input.value = "";
  });
}
