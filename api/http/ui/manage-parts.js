// What the panels of the management dialog have in common.

import { element } from "./dom.js";
import { locale, number, t } from "./i18n.js";

export const button = (text, onclick, extra = "") =>
  element("button", { type: "button", class: `button ${extra}`.trim(), onclick }, text);

export const quiet = (...text) => element("p", { class: "manage-quiet" }, ...text);

export const command = (text) => element("p", {}, element("code", {}, text));

// What the service says, which is in English.
export const said = (text, extra = "") => element("p", { lang: "en", dir: "auto", class: extra }, text);

export const wrong = (error) =>
  element(
    "p",
    { role: "alert", lang: "en", class: "manage-wrong" },
    error.message || error.title || t("unreachableTitle"),
  );

export const mayWrite = (told) => told.scopes.includes("write");

export const moment = (time) =>
  new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" }).format(new Date(time));

// Seconds in the unit that is read most easily.
export function duration(seconds) {
  const [unit, size] = [
    ["hour", 3600],
    ["minute", 60],
    ["second", 1],
  ].find(([, size]) => seconds >= 1.5 * size) ?? ["second", 1];
  return number(Math.max(1, Math.round(seconds / size)), { style: "unit", unit, unitDisplay: "long" });
}

// Runs what a button asks for: the button rests meanwhile, and a problem is told beside it.
export function asking(run) {
  return async (event) => {
    const asked = event.currentTarget;
    asked.parentElement.querySelector(":scope > [role=alert]")?.remove();
    asked.disabled = true;
    try {
      await run();
    } catch (error) {
      if (error.name !== "AbortError") asked.parentElement.append(wrong(error));
    } finally {
      asked.disabled = false;
    }
  };
}
