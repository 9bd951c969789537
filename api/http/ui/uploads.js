// Uploading files: a queue that outlives the dialog, sends small parcels, and tries again.

import * as api from "./api.js";
import { byId, element } from "./dom.js";
import { fileSize, t } from "./i18n.js";
import { library } from "./library.js";
import { button, duration, mayWrite, quiet } from "./manage-parts.js";

// Of one request. The service stores all files of it or none, so a small parcel loses little.
const MOST_FILES = 20;
const MOST_BYTES = 16e6;
const ROOM_FOR_HEADERS = 20_000;
const TRIES = 6;
const WATCH_S = 1.5;
const MOST_ROWS = 200;
const DRAW_MS = 200;
const BAD = ["refused", "failed"];
// Names of what systems leave in folders.
const JUNK = /^(\..*|Thumbs\.db|desktop\.ini)$/i;

const queue = [];
let groups = 0;
const jobs = new Map();
let isSending = false;
let isWatching = false;
let drawing = null;
let draw = () => {};

const limit = () => library.told?.max_upload_bytes ?? 50e6;

// What may be uploaded by whoever looks at the page.
export const mayUpload = () => Boolean(library.told?.uploads && mayWrite(library.told));

export function upload(files) {
  for (const file of files) {
    const entry = { file, state: "waiting", sent: 0, reason: "", tries: 0, key: newKey(), group: null };
    if (file.size + ROOM_FOR_HEADERS > limit())
      refuse(entry, t("uploadTooLarge", { size: fileSize(limit()) }));
    else if (!file.size) refuse(entry, t("uploadEmpty"));
    queue.push(entry);
  }
  changed();
  send();
}

const newKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join(
    "",
  );

function refuse(entry, reason, state = "refused") {
  Object.assign(entry, { state, reason, sent: 0 });
}

function retry(entries) {
  for (const entry of entries)
    Object.assign(entry, { state: "waiting", reason: "", tries: 0, sent: 0, key: newKey(), group: null });
  changed();
  send();
}

function changed() {
  drawing ??= setTimeout(() => {
    drawing = null;
    draw();
  }, DRAW_MS);
}

addEventListener("beforeunload", (event) => {
  if (queue.some((entry) => ["waiting", "sending"].includes(entry.state))) event.preventDefault();
});

// ---- Sending

async function send() {
  if (isSending) return;
  isSending = true;
  for (let parcel = nextParcel(); parcel.length; parcel = nextParcel()) await sendParcel(parcel);
  isSending = false;
}

// Files of a parcel that was refused come in the halves of it.
function nextParcel() {
  const parcel = [];
  let bytes = 0;
  for (const entry of queue) {
    if (entry.state !== "waiting") continue;
    const fits =
      parcel.length < MOST_FILES &&
      bytes + entry.file.size <= Math.min(MOST_BYTES, limit() - ROOM_FOR_HEADERS);
    if (parcel.length && (!fits || entry.group !== parcel[0].group)) break;
    parcel.push(entry);
    bytes += entry.file.size;
  }
  return parcel;
}

async function sendParcel(parcel) {
  // Sent again, it has the same files, as its key is the same.
  groups += parcel[0].group === null;
  for (const entry of parcel) Object.assign(entry, { state: "sending", group: entry.group ?? groups });
  changed();
  const answer = await post(parcel);
  const { status, body } = answer;
  if (status === 200 || status === 202) {
    for (const [at, entry] of parcel.entries()) {
      Object.assign(entry, { state: "stored", sent: entry.file.size });
      jobs.set(body.id, [...(jobs.get(body.id) ?? []), { entry, at }]);
    }
    watch();
  } else if (status === 401) {
    await api.stats().catch(() => {}); // asks for the key
    waitAgain(parcel);
  } else if ([413, 415, 422].includes(status)) {
    if (parcel.length === 1) refuse(parcel[0], body.detail ?? "");
    else halve(parcel);
  } else if ([0, 408, 429, 502, 503, 504].includes(status) && parcel[0].tries < TRIES) {
    waitAgain(parcel);
    changed();
    await api.pause(answer.retry_s || 2 ** parcel[0].tries);
  } else {
    for (const entry of parcel) refuse(entry, body.detail || t("unreachableTitle"), "failed");
  }
  changed();
}

function waitAgain(parcel) {
  for (const entry of parcel) Object.assign(entry, { state: "waiting", sent: 0, tries: entry.tries + 1 });
}

function halve(parcel) {
  const middle = Math.ceil(parcel.length / 2);
  for (const half of [parcel.slice(0, middle), parcel.slice(middle)]) {
    groups += 1;
    for (const entry of half)
      Object.assign(entry, { state: "waiting", sent: 0, key: newKey(), group: groups });
  }
}

// `fetch` tells no progress of what is sent.
function post(parcel) {
  const form = new FormData();
  for (const { file } of parcel) form.append("files", file, file.name);
  const request = new XMLHttpRequest();
  request.open("POST", api.addressOf("/v1/items"));
  for (const [name, value] of Object.entries(api.keyHeader())) request.setRequestHeader(name, value);
  // The same for a parcel that is sent again, so that no file is stored twice.
  request.setRequestHeader("Idempotency-Key", parcel[0].key);
  request.upload.addEventListener("progress", (event) => {
    let left = event.loaded;
    for (const entry of parcel) {
      entry.sent = Math.min(entry.file.size, left);
      left -= entry.sent;
    }
    changed();
  });
  return new Promise((resolve) => {
    request.addEventListener("loadend", () => {
      let body = {};
      try {
        body = JSON.parse(request.responseText);
      } catch {
        // A proxy has answered, or nobody.
      }
      resolve({
        status: request.status,
        body,
        retry_s: Math.min(Number(request.getResponseHeader("Retry-After")) || 0, 30),
      });
    });
    request.send(form);
  });
}

// ---- What became of them

async function watch() {
  if (isWatching) return;
  isWatching = true;
  while (jobs.size) {
    await api.pause(WATCH_S);
    const told = await api.jobs().catch(() => null);
    if (told) settle(told.jobs);
  }
  isWatching = false;
}

function settle(told) {
  const byJob = new Map(told.map((job) => [job.id, job]));
  for (const [id, files] of jobs) {
    const job = byJob.get(id);
    if (job && !job.finished_at) continue;
    jobs.delete(id);
    for (const { entry, at } of files) {
      const failure = job?.result?.files?.[at]?.failure ?? job?.error;
      if (job?.state === "cancelled") refuse(entry, t("uploadCancelled"), "failed");
      else if (failure) refuse(entry, failure, "failed");
      else entry.state = "done";
    }
  }
  changed();
}

// ---- Showing

export function uploadSection(told, signal) {
  const many = element("input", {
    type: "file",
    multiple: true,
    hidden: true,
    tabIndex: -1,
    "aria-label": t("uploadPick"),
  });
  const folder = element("input", {
    type: "file",
    multiple: true,
    webkitdirectory: true,
    hidden: true,
    tabIndex: -1,
    "aria-label": t("uploadFolder"),
  });
  for (const input of [many, folder]) {
    input.addEventListener("change", () => {
      upload([...input.files].filter((file) => input === many || !JUNK.test(file.name)));
      input.value = "";
    });
  }
  const { node, drawSummary } = summary();
  const list = element("ul", { class: "manage-list upload-list", "aria-label": t("uploadList") });
  const rows = new Map();
  draw = () => {
    drawSummary();
    list.replaceChildren(...rowsToShow().map((entry) => rowOf(rows, entry)));
  };
  signal.addEventListener("abort", () => (draw = () => {}));
  const area = element(
    "div",
    { class: "upload-drop", "data-drop": "add" },
    quiet(t("uploadHint", { size: fileSize(told.max_upload_bytes) })),
    element(
      "div",
      { class: "manage-row" },
      button(t("uploadPick"), () => many.click(), "primary"),
      button(t("uploadFolder"), () => folder.click()),
      many,
      folder,
    ),
  );
  draw();
  return element("div", {}, area, node, list);
}

function rowsToShow() {
  const order = [...BAD, "sending", "waiting", "stored", "done"];
  const first = (entry) => order.indexOf(entry.state);
  return queue.toSorted((one, other) => first(one) - first(other)).slice(0, MOST_ROWS);
}

// Its buttons stay, and with them the focus, while their surroundings change.
function summary() {
  let started = 0;
  const bar = element("progress", { "aria-label": t("uploadProgress") });
  const told = element("p", { role: "status" });
  const again = button(t("uploadRetry"), () => retry(of("failed")), "small");
  const end = button(t("uploadStop"), stop, "small");
  const clear = button(t("uploadClear"), forget, "small");
  const rows = quiet(t("uploadRows", { n: MOST_ROWS }));
  const node = element(
    "div",
    {},
    bar,
    told,
    element("div", { class: "manage-row" }, again, end, clear),
    rows,
  );
  const of = (...states) => queue.filter((entry) => states.includes(entry.state));

  function drawSummary() {
    node.hidden = !queue.length;
    const left = of("waiting", "sending");
    bar.max = queue.reduce((sum, entry) => sum + entry.file.size, 0) || 1;
    bar.value = queue.reduce(
      (sum, entry) => sum + (["waiting", "sending"].includes(entry.state) ? entry.sent : entry.file.size),
      0,
    );
    started = left.length ? started || performance.now() : 0;
    const seconds = started ? (performance.now() - started) / 1000 : 0;
    const parts = [t("uploadDone", { n: of("done").length, of: queue.length })];
    if (of("stored").length) parts.push(t("uploadStored", { n: of("stored").length }));
    if (of(...BAD).length) parts.push(t("uploadBad", { n: of(...BAD).length }));
    if (seconds > 3 && bar.value)
      parts.push(t("jobsLeft", { time: duration(((bar.max - bar.value) * seconds) / bar.value) }));
    if (told.textContent !== parts.join(" · ")) told.textContent = parts.join(" · ");
    again.hidden = !of("failed").length;
    end.hidden = !left.length;
    clear.hidden = left.length > 0;
    rows.hidden = queue.length <= MOST_ROWS;
  }
  return { node, drawSummary };
}

function stop() {
  for (const entry of queue.filter((one) => one.state === "waiting"))
    refuse(entry, t("uploadStopped"), "failed");
  changed();
}

function forget() {
  queue.splice(0, queue.length, ...queue.filter((entry) => !["done", ...BAD].includes(entry.state)));
  changed();
}

function rowOf(rows, entry) {
  if (!rows.has(entry)) {
    const state = element("span", { class: "manage-quiet" });
    const reason = element("p", { lang: "en", dir: "auto", class: "manage-wrong" });
    const again = element(
      "button",
      {
        type: "button",
        class: "button small",
        "aria-label": t("uploadRetryOne", { name: entry.file.name }),
        onclick: () => retry([entry]),
      },
      t("retry"),
    );
    const line = element(
      "div",
      { class: "manage-line" },
      element("span", { dir: "auto" }, entry.file.webkitRelativePath || entry.file.name),
      state,
      again,
    );
    rows.set(entry, { node: element("li", {}, line, reason), state, reason, again });
  }
  const row = rows.get(entry);
  const share = entry.file.size ? Math.floor((100 * entry.sent) / entry.file.size) : 0;
  row.state.textContent = t(`upload_${entry.state}`, { n: share });
  row.reason.textContent = entry.reason;
  row.reason.hidden = !entry.reason;
  row.again.hidden = !BAD.includes(entry.state);
  return row.node;
}

// ---- Dropping

const zone = byId("drop-add");

// Shows where a dragged file can be dropped to be added.
document.addEventListener("dragenter", () => (zone.hidden = !mayUpload()), true);
document.addEventListener("dragover", (event) => zone.classList.toggle("over", isToAdd(event)), true);

const isToAdd = (event) =>
  mayUpload() && (event.target === zone || Boolean(event.target.closest?.("#manage[open]")));

// Takes a drop that is to be added, not searched with: on the place for it, or of a folder. Returns
// whether it did.
export function takesDrop(event, opened) {
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const hasFolder = entries.some((entry) => entry.isDirectory);
  if (!mayUpload() || !(isToAdd(event) || hasFolder)) return false;
  const files = [...event.dataTransfer.files];
  (hasFolder ? filesBelow(entries) : Promise.resolve(files)).then(upload);
  opened();
  return true;
}

async function filesBelow(entries) {
  const files = [];
  const left = [...entries];
  while (left.length) {
    const entry = left.shift();
    if (JUNK.test(entry.name)) continue;
    if (entry.isFile) files.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    else left.push(...(await entriesOf(entry.createReader())));
  }
  return files;
}

// A browser gives them in steps of a hundred.
async function entriesOf(reader) {
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    found.push(...some);
  }
}
