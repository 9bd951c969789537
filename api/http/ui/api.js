// HTTP: one function asks the service, with the API key if one is needed, and turns what goes wrong
// into a Problem.

import { session } from "./storage.js";

const MOST_PATIENCE_S = 10;
const TRIES = 3;

export class Problem extends Error {
  // status 0: the service could not be reached.
  constructor(status, title, detail) {
    super(detail);
    this.status = status;
    this.title = title;
  }
}

// The service may lie below a path of a proxy, which need not be known to it: what is asked for is
// found from the address of this file, ui/VERSION/api.js.
const root = new URL("../../", import.meta.url);

// The address of an endpoint; `path` may begin with the path of a proxy.
export const addressOf = (path) =>
  new URL(path.slice(Math.max(path.lastIndexOf("/v1/"), 0)).replace(/^\//, ""), root);

let key = session.get("key");
let askForKey = async () => null;
let asking = null;

export const hasKey = () => Boolean(key);

// `ask(wrong)` shows the prompt and resolves to what was entered.
export function onMissingKey(ask) {
  askForKey = ask;
}

// All requests that are refused meanwhile wait for the same prompt.
async function newKey(refused) {
  if (key !== refused) return;
  asking ??= askForKey(Boolean(refused)).finally(() => (asking = null));
  key = await asking;
  session.set("key", key);
}

// What is pasted is a secret, or the whole line of it that `mmsearch serve --new-key` prints.
export const secretOf = (text) =>
  text.trim().match(/^[^:]+:\s*(?:read|write)(?:\s*,\s*(?:read|write))*\s*:(.+)$/)?.[1].trim() ?? text.trim();

export const keyHeader = () => (key ? { Authorization: `Bearer ${key}` } : {});

export async function request(path, { body, method, signal, accept = "application/json" } = {}) {
  for (let attempt = 1; ; attempt += 1) {
    const used = key;
    const response = await send(path, body, method, signal, accept);
    if (response.ok) return response;
    if (response.status === 401) {
      await newKey(used);
      signal?.throwIfAborted();
    } else if (response.status === 429 && attempt < TRIES) {
      await pause(Math.min(Number(response.headers.get("Retry-After")) || 1, MOST_PATIENCE_S), signal);
    } else {
      throw await problemOf(response);
    }
  }
}

async function send(path, body, method, signal, accept) {
  const headers = { Accept: accept, ...keyHeader() };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(addressOf(path), {
      method: method ?? (body === undefined ? "GET" : "POST"),
      body: body === undefined ? undefined : JSON.stringify(body),
      headers,
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "", error.message);
  }
}

async function problemOf(response) {
  try {
    const { title, detail } = await response.json();
    return new Problem(response.status, title, detail);
  } catch {
    return new Problem(response.status, response.statusText, "");
  }
}

export function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

const json = async (path, options) => (await request(path, options)).json();

export const search = (body, signal) => json("/v1/search", { body, signal });
export const facets = (body, signal, limit = 500) => json(`/v1/facets?limit=${limit}`, { body, signal });
export const readiness = () => json("/readyz");
export const stats = (signal) => json("/v1/stats", { signal });
export const notes = (limit, signal, reason = "") =>
  json(`/v1/notes?${new URLSearchParams({ ...(reason && { reason }), limit })}`, { signal });
export const changes = (after, signal) => json(`/v1/changes?after=${after}`, { signal });
export const storage = (signal) => json("/v1/storage", { signal });
export const folders = (path, signal) =>
  json(`/v1/folders${path ? `?${new URLSearchParams({ path })}` : ""}`, { signal });
export const createLibrary = (language) => json("/v1/library", { body: { language } });
export const index = (body) => json("/v1/index", { body });
export const jobs = (signal) => json("/v1/jobs", { signal });
export const cancelJob = (id) => json(`/v1/jobs/${id}`, { method: "DELETE" });
export const item = (id, signal) => json(`/v1/items/${id}`, { signal });
export const textsOfItem = (id, signal) => json(`/v1/items/${id}/texts`, { signal });
export const describe = (id, signal) => json("/v1/describe", { body: { item: id }, signal });
export const explain = (text, id, signal) =>
  json(`/v1/explain?${new URLSearchParams({ text, item: id })}`, { signal });

export function items({ where, cursor, offset = 0, modality, limit, order }, signal) {
  const parameters = new URLSearchParams({ limit, modality, order });
  if (offset) parameters.set("offset", offset);
  if (where) parameters.set("where", JSON.stringify(where));
  if (cursor) parameters.set("cursor", cursor);
  return json(`/v1/items?${parameters}`, { signal });
}

// The values of one facet: {facet, below, contains, limit}.
export function facetValues({ below = [], ...asked }, body, signal) {
  const parameters = new URLSearchParams(asked);
  for (const value of below) parameters.append("below", value);
  return json(`/v1/facets/values?${parameters}`, { body, signal });
}

export const neighbours = (id, count, signal) =>
  json(`/v1/items/${id}/neighbours?${new URLSearchParams(count)}`, { signal });
export const mapPoints = (box, signal) => json(`/v1/map?${new URLSearchParams(box)}`, { signal });

// An address of a file that needs no key, for what cannot send one: {url, expires_at}.
export const link = (id, signal) => json(`/v1/items/${id}/link`, { body: {}, signal });

export const fileUrl = (id) => addressOf(`/v1/items/${id}/file`).pathname;

export async function blob(path, signal) {
  return (await request(path, { signal, accept: "*/*" })).blob();
}
