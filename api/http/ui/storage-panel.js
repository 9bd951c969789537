// What the library takes on disk, what it holds, its spaces, and what is wrong with it as a whole.

import * as api from "./api.js";
import { element } from "./dom.js";
import { fileSize, number, t } from "./i18n.js";
import { quiet, said, wrong } from "./manage-parts.js";

const PARTS = ["catalog", "embeddings", "indices", "thumbnails", "token_cache", "other"];

export async function storagePanel(place, { signal }) {
  place.append(quiet(t("loading")));
  try {
    const [told, stored] = await Promise.all([api.stats(signal), api.storage(signal)]);
    if (!signal.aborted) place.replaceChildren(...drawn(told, stored));
  } catch (error) {
    if (!signal.aborted) place.replaceChildren(wrong(error));
  }
}

function drawn(told, stored) {
  return [
    ...stored.warnings.map((warning) => said(warning, "manage-warning")),
    element("h3", {}, t("storageHeld")),
    amounts([
      ...Object.entries(told.kinds).map(([kind, n]) => [t(`kind_${kind}`), number(n)]),
      [t("storagePictures"), number(told.images)],
      [t("storageTexts"), number(told.texts)],
      [t("storageFailed"), number(told.files_failed)],
      [t("storageNoted"), number(told.files_noted)],
    ]),
    element("h3", {}, t("storageDisk")),
    amounts([
      ...PARTS.filter((part) => stored.bytes[part]).map((part) => [
        t(`storage_${part}`),
        fileSize(stored.bytes[part]),
      ]),
      [t("storageTotal"), fileSize(stored.bytes.total)],
    ]),
    quiet(t("storageLimit", { size: fileSize(stored.token_cache_limit) })),
    element("h3", {}, t("storageSpaces")),
    ...stored.spaces.map(space),
    element("h3", {}, t("storageService")),
    table([
      [t("storageVersion"), told.version],
      [t("storagePlace"), stored.library],
      [t("storageReranker"), told.reranker ?? t("storageNone")],
      ...told.indices.map((index) => [t(`storageIndex_${index.modality}`), indexed(index)]),
    ]),
  ];
}

const indexed = (index) =>
  index.kind === "exact"
    ? t("storageExact", { n: index.rows })
    : `${index.kind} · ${number(index.rows_covered)} / ${number(index.rows)}`;

function space(one) {
  const state = one.files_behind ? t("storageBehind", { n: one.files_behind }) : t("storageComplete");
  const marks = [one.is_default && t("storageDefault"), one.is_searched && t("storageSearched"), state];
  return table([
    [t("storageEncoder"), one.encoder],
    [t("storageState"), marks.filter(Boolean).join(" · ")],
    [
      t("storageVectors"),
      t("storageVectorsOf", { images: one.images, texts: one.texts, dimension: one.dimension }),
    ],
    [t("storageId"), one.id],
  ]);
}

const table = (rows, kind = "") =>
  element(
    "table",
    {},
    element(
      "tbody",
      {},
      ...rows.map(([name, value]) =>
        element(
          "tr",
          {},
          element("th", { scope: "row" }, name),
          element("td", { class: kind, dir: "auto" }, value),
        ),
      ),
    ),
  );

const amounts = (rows) => table(rows, "amount");
