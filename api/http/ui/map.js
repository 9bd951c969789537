// A small map of where a picture was taken, drawn from the coordinates of the library and an outline of
// the land. Nothing is asked of any other server.

import { mapPoints } from "./api.js";
import { element, iconButton } from "./dom.js";
import { number, t } from "./i18n.js";
import { nearOf } from "./query.js";

const SVG = "http://www.w3.org/2000/svg";
const LAND = new URL("./land.svg", import.meta.url).pathname;
const [WIDTH, HEIGHT] = [320, 180];
// Degrees of latitude that the map is high, and the radius in km of what counts as near.
const LEVELS = [
  [150, 500],
  [30, 100],
  [6, 20],
  [1.2, 5],
  [0.12, 1],
];
const FIRST_LEVEL = 2;
// The outline is not fine enough for less.
const LEAST_LAND = 3;
const CELLS = 14;

const osm = (latitude, longitude) =>
  `https://www.openstreetmap.org/?${new URLSearchParams({ mlat: latitude, mlon: longitude })}#map=15/${latitude}/${longitude}`;

// place: {latitude, longitude}. linkTo(near) makes a link to what was taken near. The link to
// OpenStreetMap is followed when somebody follows it, and only then.
export function showMap(section, place, linkTo, signal) {
  const [latitude, longitude] = [place.latitude, place.longitude].map((degrees) => Number(degrees.toFixed(6)));
  let level = FIRST_LEVEL;
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": t("mapLabel") });
  const near = element("span", { class: "map-near" });
  const [closer, wider] = [
    iconButton("zoom-in", t("mapCloser"), () => go(1)),
    iconButton("zoom-out", t("mapWider"), () => go(-1)),
  ];
  section.replaceChildren(
    element("div", { class: "map" }, drawing, element("div", { class: "map-zoom" }, closer, wider)),
    element(
      "p",
      { class: "map-links" },
      near,
      element(
        "a",
        { href: osm(latitude, longitude), target: "_blank", rel: "noopener noreferrer" },
        t("openStreetMap"),
      ),
    ),
  );

  function go(step) {
    level = Math.min(LEVELS.length - 1, Math.max(0, level + step));
    closer.disabled = level === LEVELS.length - 1;
    wider.disabled = level === 0;
    draw();
  }

  async function draw() {
    const [high, km] = LEVELS[level];
    const shown = level;
    const view = viewOf(latitude, longitude, high);
    near.replaceChildren(linkTo(nearOf(latitude, longitude, km), t("nearHere", { km: number(km) })));
    paint([]);
    try {
      const { points } = await mapPoints({ ...view.box, cells: CELLS }, signal);
      if (shown === level) paint(points);
    } catch {
      // the place itself is drawn already
    }

    function paint(points) {
      const most = Math.max(1, ...points.map(({ count }) => count));
      drawing.replaceChildren(
        svg("rect", { class: "map-sea", width: WIDTH, height: HEIGHT }),
        ...(high >= LEAST_LAND ? land(view) : []),
        ...points.map((point) => {
          const [x, y] = view.at(point);
          const radius = 3 + 7 * (Math.log1p(point.count) / Math.log1p(most));
          return svg("circle", { class: "map-point", cx: x, cy: y, r: radius.toFixed(1) });
        }),
        pin(view.at({ latitude, longitude })),
        ...scale(high),
      );
    }
  }

  draw();
}

// What the map shows, with equal scales in both directions at its middle.
function viewOf(latitude, longitude, high) {
  const middle = Math.min(90 - high / 2, Math.max(high / 2 - 90, latitude));
  const wide = Math.min(360, (high * WIDTH) / HEIGHT / Math.max(0.05, Math.cos((middle * Math.PI) / 180)));
  const [left, top] = [longitude - wide / 2, middle + high / 2];
  const around = (degrees) => ((((degrees + 180) % 360) + 360) % 360) - 180;
  return {
    box: {
      south: middle - high / 2,
      north: top,
      west: wide === 360 ? -180 : around(left),
      east: wide === 360 ? 180 : around(left + wide),
    },
    at: ({ latitude: y, longitude: x }) => {
      const from = x - left;
      return [((((from % 360) + 360) % 360) / wide) * WIDTH, ((top - y) / high) * HEIGHT];
    },
    left,
    top,
    scales: [WIDTH / wide, HEIGHT / high],
  };
}

// The land once more on each side, where the map goes past the 180th meridian.
function land({ left, top, scales: [across, down] }) {
  return [-360, 0, 360].map((turn) =>
    svg("image", {
      class: "map-land",
      href: LAND,
      x: (turn - 180 - left) * across,
      y: (top - 90) * down,
      width: 360 * across,
      height: 180 * down,
      preserveAspectRatio: "none",
    }),
  );
}

const pin = ([x, y]) =>
  svg("path", {
    class: "map-pin",
    d: "M0 0c-6-8-9-12-9-17a9 9 0 1 1 18 0c0 5-3 9-9 17zM0-20a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
    transform: `translate(${x} ${y})`,
  });

// A bar of a round number of kilometres.
function scale(high) {
  const kmOfPixel = (high * 111.32) / HEIGHT;
  const rounds = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
  const km = rounds.findLast((each) => each / kmOfPixel <= 90) ?? rounds[0];
  const [right, y] = [WIDTH - 10, HEIGHT - 9];
  const text = svg("text", { class: "map-scale", x: right, y: y - 5, "text-anchor": "end" });
  text.textContent = t("kilometres", { km: number(km) });
  const line = svg("path", { class: "map-bar", d: `M${right - km / kmOfPixel} ${y}H${right}` });
  return [line, text];
}

function svg(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}
