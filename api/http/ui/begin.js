// How to begin where there is nothing to see yet: buttons where the service allows it, else a command.

import * as api from "./api.js";
import { element } from "./dom.js";
import { locale, t } from "./i18n.js";
import { library } from "./library.js";
import { manage } from "./manage.js";
import { asking, button, command, mayWrite, quiet } from "./manage-parts.js";

// Of a library without anything in it. Returns what to say, and what to show.
export function waysToBegin(isWorking) {
  const { told } = library;
  if (isWorking) {
    return {
      hint: t("beginWorking"),
      nodes: [row(button(t("beginProgress"), () => manage("jobs"), "primary"))],
    };
  }
  const ways = [];
  if (told && mayWrite(told)) {
    if (told.index_below.length) ways.push(button(t("addFolder"), () => manage("add"), "primary"));
    if (told.uploads) ways.push(button(t("uploadFiles"), () => manage("add"), "primary"));
    if (told.sources.length && !ways.length)
      ways.push(button(t("indexAgain"), asking(startIndexing), "primary"));
  }
  const line = command(told?.first_command ?? "mmsearch index ~/Pictures");
  if (!ways.length) return { hint: t("emptyHint"), nodes: [line] };
  return { hint: t("beginHint"), nodes: [row(...ways), quiet(t("beginCommand")), line] };
}

async function startIndexing() {
  await api.index({});
  manage("jobs");
}

// Of a service without a library.
export function waysToCreate({ first_command, may_create }) {
  const line = command(first_command);
  if (!may_create) return { hint: t("noLibraryHint"), nodes: [line] };
  const state = quiet("");
  state.setAttribute("role", "status");
  const create = asking(async () => {
    state.textContent = t("beginCreating");
    try {
      await api.createLibrary(locale().split("-")[0]);
      state.textContent = t("beginCreated");
    } catch (error) {
      state.textContent = "";
      throw error;
    }
  });
  return {
    hint: t("beginCreateHint"),
    nodes: [row(button(t("beginCreate"), create, "primary")), state, quiet(t("beginCommand")), line],
  };
}

const row = (...ways) => element("div", { class: "begin" }, ...ways);
