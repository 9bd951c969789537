// Where words looked, drawn over a picture: from clear through violet and red to yellow.

const STOPS = [
  [0, [40, 10, 90, 0]],
  [0.25, [105, 20, 130, 0.35]],
  [0.55, [215, 50, 85, 0.62]],
  [0.8, [250, 140, 40, 0.76]],
  [1, [255, 238, 130, 0.86]],
];

function colour(share) {
  const above = Math.max(1, STOPS.findIndex(([at]) => at >= share));
  const [[low, from], [high, to]] = [STOPS[above - 1], STOPS[above]];
  const mix = (share - low) / (high - low);
  return from.map((value, channel) => value + (to[channel] - value) * mix);
}

// heat: rows of shares, from top to bottom. view: the part of a picture of `width` x `height` pixels
// that they cover: left, top, right, bottom.
export function drawHeat(canvas, heat, view, width, height) {
  const [rows, columns] = [heat.length, heat[0].length];
  const most = Math.max(...heat.flat()) || 1;
  const cells = new ImageData(columns, rows);
  heat.flat().forEach((value, place) => {
    const [red, green, blue, alpha] = colour(value / most);
    cells.data.set([red, green, blue, alpha * 255], place * 4);
  });
  const small = new OffscreenCanvas(columns, rows);
  small.getContext("2d").putImageData(cells, 0, 0);

  const scale = Math.min(1, 1280 / Math.max(width, height));
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const [left, top, right, bottom] = view.map((value) => value * scale);
  context.drawImage(small, left, top, right - left, bottom - top);
}
