// Jobs: their list, and the running one followed by server-sent events.

import * as api from "./api.js";
import { element } from "./dom.js";
import { number, t } from "./i18n.js";
import { asking, button, duration, mayWrite, moment, quiet, said, wrong } from "./manage-parts.js";

const FINAL = ["succeeded", "failed", "cancelled"];
const COUNTS = [
  "added",
  "changed",
  "moved",
  "relocated",
  "duplicates",
  "removed",
  "refreshed",
  "unchanged",
  "failed",
  "noted",
];
// Others are those of building an index.
const STAGES = { files: "jobsFiles", ocr: "jobs_ocr", speech: "jobs_speech", caption: "jobs_caption" };
const PAUSE_S = 2;
const LIST_S = 4;
// The rate is that of the last half minute, since files differ.
const WINDOW_MS = 30_000;

const isFinished = (job) => FINAL.includes(job.state);

// Calls `changed(job)` at each change of a job until it has finished.
export async function followJob(id, signal, changed) {
  while (!signal.aborted) {
    try {
      for await (const job of events(id, signal)) {
        changed(job);
        if (isFinished(job)) return;
      }
    } catch (error) {
      if (error.name === "AbortError" || error.status === 404) return;
    }
    await api.pause(PAUSE_S, signal).catch(() => {});
  }
}

// An EventSource could not send the key.
async function* events(id, signal) {
  const response = await api.request(`/v1/jobs/${id}`, { signal, accept: "text/event-stream" });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice(6));
    }
  }
}

export async function jobsPanel(place, { signal, goTo }) {
  place.append(quiet(t("loading")));
  const rows = new Map();
  let wake = () => {};
  let mayCancel = false;
  const list = element("ul", { class: "manage-list" });
  const elsewhere = quiet("");

  async function update() {
    const { jobs } = await api.jobs(signal);
    for (const job of jobs.slice().reverse()) {
      if (!rows.has(job.id)) {
        rows.set(job.id, jobRow(job, mayCancel, goTo));
        list.prepend(rows.get(job.id).node);
      }
      rows.get(job.id).draw(job);
    }
    none.hidden = jobs.length > 0;
    // They run in the order in which they came.
    return jobs.findLast((job) => !isFinished(job));
  }

  const none = quiet(t("jobsNone"));
  try {
    const told = await api.stats(signal);
    mayCancel = mayWrite(told);
    const start =
      mayCancel && told.sources.length
        ? element(
            "div",
            { class: "manage-row" },
            button(
              t("indexAgain"),
              asking(async () => {
                await api.index({});
                wake();
              }),
            ),
          )
        : "";
    place.replaceChildren(start, elsewhere, none, list);
    elsewhere.hidden = true;
    watchOthers(elsewhere, signal);
    await update();
  } catch (error) {
    if (!signal.aborted) place.replaceChildren(wrong(error));
    return;
  }

  let followed = null;
  while (!signal.aborted) {
    const running = document.hidden ? null : await update().catch(() => null);
    if (running && running.id !== followed) {
      followed = running.id;
      followJob(running.id, signal, (job) => rows.get(job.id)?.draw(job)).then(() => wake());
    }
    const woken = new Promise((resolve) => (wake = resolve));
    await Promise.race([api.pause(LIST_S, signal).catch(() => {}), woken]);
  }
}

// Another program that indexes is known by what it adds, while no job of this service runs.
async function watchOthers(place, signal) {
  let before = null;
  let added = 0;
  while (!signal.aborted) {
    try {
      const told = await api.changes(before?.last_item ?? 0, signal);
      if (before && told.revision !== before.revision && !told.jobs && !before.jobs) {
        added += told.images + told.texts;
        place.textContent = t("jobsElsewhere", { n: added });
        place.hidden = false;
      } else if (told.jobs) [place.hidden, added] = [true, 0];
      before = told;
    } catch {
      // The next one may be answered.
    }
    await api.pause(PAUSE_S * 2, signal).catch(() => {});
  }
}

function jobRow(first, mayCancel, goTo) {
  const title = element("strong", { dir: "auto" }, titleOf(first));
  const state = element("span", { class: "manage-quiet" });
  const bar = element("progress", { "aria-label": t("jobsProgress", { name: titleOf(first) }) });
  const progress = quiet("");
  const result = element("div", {});
  const cancel = element(
    "button",
    {
      type: "button",
      class: "button small",
      "aria-label": t("jobsCancelOne", { name: titleOf(first) }),
      onclick: asking(async () => draw(await api.cancelJob(first.id))),
    },
    t("jobsCancel"),
  );
  const node = element(
    "li",
    {},
    element("div", { class: "manage-line" }, title, state, mayCancel ? cancel : ""),
    bar,
    progress,
    result,
  );
  const seen = [];
  let drawn = "";

  function draw(job) {
    const changed = JSON.stringify(job);
    if (changed === drawn) return;
    drawn = changed;
    state.textContent = t(job.cancelling ? "job_cancelling" : `job_${job.state}`);
    cancel.hidden = isFinished(job) || job.cancelling;
    bar.hidden = progress.hidden = job.state !== "running";
    const { done, total } = job.progress;
    if (total) [bar.max, bar.value] = [total, done];
    else bar.removeAttribute("value");
    progress.textContent = progressOf(job, seen);
    result.replaceChildren(...resultOf(job, goTo));
  }
  return { node, draw };
}

function titleOf({ kind, paths, retry_failed: again }) {
  if (kind === "upload") return t("jobUpload");
  if (kind === "texts") return t("jobTexts");
  const place = paths.length > 1 ? t("jobPlaces", { name: paths[0], n: paths.length - 1 }) : paths[0];
  if (again) return place ? t("jobAgain", { name: place }) : t("jobAgainAll");
  return place ? t("jobIndex", { name: place }) : t("jobIndexAll");
}

function progressOf({ progress }, seen) {
  const { stage, done, total, failed } = progress;
  if (stage.startsWith("waiting")) return t("jobsLocked");
  if (!total) return t("jobsScanning");
  const parts = [t(STAGES[stage] ?? "jobsIndex", { done, n: total })];
  const now = performance.now();
  if (seen.length && (seen[0].stage !== stage || seen[0].total !== total)) seen.length = 0;
  seen.push({ now, done, stage, total });
  while (seen.length > 2 && now - seen[0].now > WINDOW_MS) seen.shift();
  const seconds = (now - seen[0].now) / 1000;
  const rate = seconds > 1 ? (done - seen[0].done) / seconds : 0;
  if (rate > 0) {
    parts.push(t("jobsRate", { rate: number(rate, { maximumSignificantDigits: 2 }) }));
    if (done < total) parts.push(t("jobsLeft", { time: duration((total - done) / rate) }));
  }
  if (failed) parts.push(t("filesFailed", { n: failed }));
  return parts.join(" · ");
}

function resultOf(job, goTo) {
  const told = [];
  if (job.error) told.push(said(job.error, "manage-wrong"));
  if (job.finished_at) told.push(element("small", {}, moment(job.finished_at)));
  if (!job.result) return told;
  const { result } = job;
  const counts = COUNTS.filter((name) => result[name]).map((name) =>
    t(`jobCount_${name}`, { n: result[name] }),
  );
  for (const { task, looked_at: of, with_text: n, failed } of result.texts ?? []) {
    counts.push(t(`jobTexts_${task}`, { n, of }));
    if (failed) counts.push(t("jobCount_failed", { n: failed }));
  }
  told.unshift(quiet([counts.join(" · ") || t("jobNothing"), duration(result.seconds)].join(" · ")));
  for (const note of [...result.notes, ...result.problems]) told.push(said(note));
  for (const file of result.files ?? [])
    if (file.failure) told.push(said(`${file.path}: ${file.failure}`, "manage-wrong"));
  if (result.failed && goTo) told.push(button(t("jobsSeeFailed"), () => goTo("problems"), "small"));
  return told;
}
