// A description of a picture, which a model of the service writes when it is asked to.

import { describe, stats } from "./api.js";
import { element } from "./dom.js";
import { t } from "./i18n.js";
import { library } from "./library.js";
import { wrong } from "./manage-parts.js";

// Offers it in a section of the viewer, where the service has such a model.
export async function offerDescription(section, hit, signal) {
  try {
    const told = library.told ?? (await stats(signal));
    if (!told.can_describe_images || signal.aborted) return;
  } catch {
    return; // the item is there without it
  }
  const said = element("div", { role: "status" });
  const button = element(
    "button",
    {
      type: "button",
      class: "button",
      onclick: async () => {
        button.setAttribute("aria-disabled", "true");
        said.replaceChildren(element("p", { class: "hint" }, t("describing")));
        const lines = await written(hit, signal);
        if (signal.aborted) return;
        said.replaceChildren(...lines);
        button.removeAttribute("aria-disabled");
      },
    },
    t("describe"),
  );
  button.dataset.name = "describe";
  section.replaceChildren(button, said);
}

async function written(hit, signal) {
  try {
    const { text, model } = await describe(hit.item_id, signal);
    return [
      element("p", { dir: "auto" }, text),
      element("small", { class: "hint" }, t("generatedBy", { name: model })),
    ];
  } catch (problem) {
    return [wrong(problem)];
  }
}
