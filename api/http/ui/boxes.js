// Outlines of the text that was recognised in a picture, over it: they move and grow with it.

const SVG = "http://www.w3.org/2000/svg";
// Boxes are fractions of the picture.
const SIDE = 1000;

// Draws the boxes of segments into the frame of a picture. Returns {find(numbers): a set of those
// that were searched for; all(isOn): whether the others are shown; point(number): the one that is pointed at, or null}.
export function drawBoxes(frame, segments) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "boxes");
  svg.setAttribute("viewBox", `0 0 ${SIDE} ${SIDE}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true"); // the panel beside it has the text
  const outlines = new Map();
  segments.forEach(({ box }, number) => {
    if (!box) return;
    const outline = document.createElementNS(SVG, "polygon");
    outline.setAttribute("points", box.map((point) => point.map((share) => (share * SIDE).toFixed(1)).join(",")).join(" "));
    outlines.set(number, outline);
    svg.append(outline);
  });
  frame.querySelector(".boxes")?.remove();
  frame.append(svg);
  return {
    find: (numbers) => outlines.forEach((outline, number) => outline.classList.toggle("found", numbers.has(number))),
    all: (isOn) => svg.classList.toggle("all", isOn),
    point: (pointed) => outlines.forEach((outline, number) => outline.classList.toggle("pointed", number === pointed)),
  };
}
