// Where pictures stand: rows of nearly equal height that fill the width, in blocks.
//
// A block is laid out by itself, so that what is not loaded yet needs only an estimate of its height, and
// 700,000 pictures only the tops of their blocks. All blocks but the last of a section end with a full
// row: nothing moves when the next block comes.

export const BLOCK = 60;

// Heights of rows of pictures: not more than this above what is wanted, where few fill a row.
const TALLEST = 1.75;

// Splits sections, [{from, to}], into blocks: [{from, to, section, isLast}].
export function blocksOf(sections) {
  const blocks = [];
  for (const [number, { from, to, goesOn }] of sections.entries()) {
    for (let start = from; start < to; start += BLOCK) {
      const end = Math.min(start + BLOCK, to);
      blocks.push({ from: start, to: end, section: number, isLast: end === to && !goesOn });
    }
  }
  return blocks;
}

// ratios: widths by heights. Returns {rows: [{from, to, top, height}], lefts, widths, height}; `from` and
// `to` count from the first of the block. Rows break where their heights differ least from the wanted one.
export function justify(ratios, { width, row, gap }, isLast) {
  const count = ratios.length;
  const cost = new Float64Array(count + 1).fill(Infinity);
  const before = new Int32Array(count + 1);
  cost[0] = 0;
  for (let from = 0; from < count; from += 1) {
    let sum = 0;
    for (let to = from + 1; to <= count; to += 1) {
      sum += ratios[to - 1];
      const height = (width - gap * (to - from - 1)) / sum;
      const isRest = isLast && to === count && height > row;
      const miss = isRest ? 0 : Math.log(Math.max(height, 1) / row) ** 2;
      if (cost[from] + miss < cost[to]) {
        cost[to] = cost[from] + miss;
        before[to] = from;
      }
      if (height < row / 3) break;
    }
  }
  const breaks = [];
  for (let to = count; to > 0; to = before[to]) breaks.unshift([before[to], to]);
  const [rows, lefts, widths] = [[], new Float64Array(count), new Float64Array(count)];
  let top = 0;
  for (const [from, to] of breaks) {
    let sum = 0;
    for (let at = from; at < to; at += 1) sum += ratios[at];
    const full = (width - gap * (to - from - 1)) / sum;
    const isRest = isLast && to === count && full > row;
    const height = isRest ? row : Math.min(full, row * TALLEST);
    let left = 0;
    for (let at = from; at < to; at += 1) {
      lefts[at] = left;
      widths[at] = ratios[at] * height;
      left += widths[at] + gap;
    }
    rows.push({ from, to, top, height });
    top += height + gap;
  }
  return { rows, lefts, widths, height: top };
}

// What `justify` would need in height for pictures of unknown shapes.
export function estimate(count, ratio, { width, row, gap }) {
  const rows = Math.max(1, Math.round((count * (ratio * row + gap)) / (width + gap)));
  return rows * (row + gap);
}

// Cards of one size in columns that fill the width; returns what `justify` does.
export function cards(count, { width, card, height, gap }) {
  const fits = Math.max(1, Math.floor((width + gap) / (card + gap)));
  // Of these, a whole number of rows makes a block.
  const columns = [12, 10, 6, 5, 4, 3, 2, 1].find((number) => number <= fits);
  const each = (width - gap * (columns - 1)) / columns;
  const [rows, lefts, widths] = [[], new Float64Array(count), new Float64Array(count).fill(each)];
  for (let at = 0; at < count; at += 1) lefts[at] = (at % columns) * (each + gap);
  for (let from = 0; from < count; from += columns) {
    rows.push({ from, to: Math.min(from + columns, count), top: (from / columns) * (height + gap), height });
  }
  return { rows, lefts, widths, height: rows.length * (height + gap) };
}
