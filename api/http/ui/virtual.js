// A list of which only what is near the window is in the document. The length of the page is that of the
// whole list, as far as it is known.

import { element } from "./dom.js";
import { blocksOf, cards, estimate, justify } from "./layout.js";

const HEADING = 44;
const FIRST_HEADING = 30;
const CARD = { card: 320, height: 250, gap: 14 };
// Browsers cannot scroll further than some 17 to 33 million pixels.
const TALLEST = 12_000_000;
const SETTLED_MS = 90;
const FEW_RATIOS = 30;
const BLOCKS_AHEAD = 180;
// Pixels a millisecond.
const HURRY = 6;

// list: the <ul>. `cellOf(hit)` makes or finds the <li> of a hit, `ratioOf(hit)` its shape, `forget(cell)`
// is called when one goes, `headingOf(section)` makes what stands above a section, `shown()` is told after
// each change, `hurried(is)` whether all rushes by, so that nothing should be fetched for it.
export function virtualList(list, { cellOf, ratioOf, forget, headingOf, shown, hurried }) {
  let source = { hits: [], length: 0, sections: [], load: async () => {}, areCards: false };
  let size = { width: 0, row: 216, gap: 8 };
  let blocks = [];
  let tops = new Float64Array(1);
  let laid = new Map(); // number of a block -> its layout
  let rendered = new Map(); // what is in the document, by its number in order
  let fixtures = new Map(); // headings, and what stands in for blocks that are not loaded, by name
  let usual = 1.4;
  let shift = 0; // what is scrolled by less than the list is long, in a very long list
  let frame = null;
  let settle = null;
  let [lastY, lastAt] = [0, 0];

  // ---- Where everything stands

  function measure() {
    const style = getComputedStyle(list);
    size = {
      width: list.clientWidth,
      row: parseFloat(style.getPropertyValue("--row")),
      gap: parseFloat(style.getPropertyValue("--gap")),
    };
    return size;
  }

  function place() {
    blocks = blocksOf(source.sections);
    tops = new Float64Array(blocks.length + 1);
    laid = new Map();
    fixtures = new Map();
    usual = usualRatio();
    let y = 0;
    for (const [number, block] of blocks.entries()) {
      y += headingHeight(number);
      tops[number] = y;
      y += isLoaded(block) ? layoutOf(number).height : guess(block);
    }
    tops[blocks.length] = y;
    list.style.setProperty("block-size", `${Math.max(0, Math.min(y, TALLEST) - gapOf())}px`);
  }

  // The pictures that are loaded tell how wide the others may be.
  function usualRatio() {
    let [sum, count] = [0, 0];
    for (const hit of source.hits.slice(0, 600)) {
      if (!hit) continue;
      sum += ratioOf(hit);
      count += 1;
    }
    return count < FEW_RATIOS ? usual : sum / count;
  }

  const gapOf = () => (source.areCards ? CARD.gap : size.gap);

  function headingHeight(number) {
    const block = blocks[number];
    const section = source.sections[block.section];
    if (!section.heading || block.from !== section.from) return 0;
    return number ? HEADING : FIRST_HEADING;
  }

  const isLoaded = ({ from, to }) => {
    for (let at = from; at < to; at += 1) if (!source.hits[at]) return false;
    return true;
  };

  function guess({ from, to }) {
    if (source.areCards) return cards(to - from, { ...CARD, width: size.width }).height;
    return estimate(to - from, usual, size);
  }

  function layoutOf(number) {
    let layout = laid.get(number);
    if (!layout) {
      const { from, to, isLast } = blocks[number];
      layout = source.areCards
        ? cards(to - from, { ...CARD, width: size.width })
        : justify(source.hits.slice(from, to).map(ratioOf), size, isLast);
      laid.set(number, layout);
    }
    return layout;
  }

  // The last block that begins at or before what `of` says.
  function lastBlock(value, of) {
    let [low, high] = [0, blocks.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (of(middle) <= value) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  const blockAt = (y) => lastBlock(y, (number) => tops[number]);
  const blockWith = (index) => lastBlock(index, (number) => blocks[number].from);

  // {left, top, width, height} in the list; of one that is not loaded, where its block is likely to have it.
  function boxOf(index) {
    if (!blocks.length) return { left: 0, top: 0, width: 0, height: 0 };
    const number = blockWith(index);
    const block = blocks[number];
    const at = index - block.from;
    if (!isLoaded(block)) {
      const share = at / (block.to - block.from);
      return { left: 0, top: tops[number] + share * guess(block), width: size.width, height: size.row };
    }
    const layout = layoutOf(number);
    const row = layout.rows.find(({ to }) => at < to);
    return {
      left: layout.lefts[at],
      top: tops[number] + row.top,
      width: layout.widths[at],
      height: row.height,
    };
  }

  // ---- The window

  const listTop = () => list.getBoundingClientRect().top + scrollY;
  const most = () => Math.max(0, document.documentElement.scrollHeight - innerHeight);
  const height = () => tops[blocks.length];
  // In a list that is too long to be scrolled through, a small step is one, and a large one goes to the
  // same share of the list.
  function adjustShift(y) {
    const excess = height() - TALLEST;
    if (excess <= 0) shift = 0;
    else if (Math.abs(y - lastY) > 2 * innerHeight || y <= 0 || y >= most()) {
      shift = Math.round((Math.min(1, Math.max(0, y / (most() || 1)))) * excess);
    }
  }

  function shiftAt(top) {
    const excess = Math.max(0, height() - TALLEST);
    if (top < 2 * innerHeight) return 0;
    return top > height() - 3 * innerHeight ? excess : Math.round((top / height()) * excess);
  }

  const viewTop = () => scrollY - listTop() + shift;

  // Scrolls so that `top` of the list is `offset` below the upper edge of the window.
  function scrollToTop(top, offset) {
    shift = shiftAt(top);
    const y = Math.max(0, top - shift + listTop() - offset);
    lastY = y;
    scrollTo({ top: y, behavior: "instant" });
    lastY = scrollY;
    render();
  }

  function barHeight() {
    return document.querySelector(".bar").offsetHeight;
  }

  // ---- Showing

  // Everything that is shown has a number by which it is in order: a hit its index, what stands before a
  // hit a little less.
  function render() {
    cancelAnimationFrame(frame);
    frame = null;
    const wanted = new Map();
    const margin = Math.min(700, innerHeight * 0.8);
    const top = blocks.length ? viewTop() : 0;
    const [from, to] = [top - margin, top + innerHeight + margin];
    const first = blocks.length ? blockAt(from) : 0;
    for (let number = first; number < blocks.length && tops[number] - HEADING < to; number += 1) {
      const block = blocks[number];
      if (headingHeight(number)) wanted.set(block.from - 0.5, fixture(number, "heading"));
      if (!isLoaded(block)) {
        wanted.set(block.from - 0.25, fixture(number, "wait"));
        continue;
      }
      for (const row of layoutOf(number).rows) {
        const y = tops[number] + row.top;
        if (y + row.height < from || y > to) continue;
        for (let at = row.from; at < row.to; at += 1) {
          wanted.set(block.from + at, cellOf(source.hits[block.from + at]));
        }
      }
    }
    put(wanted);
    shown();
  }

  // A heading, or what stands in for a block that is not loaded.
  function fixture(number, kind) {
    const block = blocks[number];
    const name = `${kind} ${block.from}`;
    let node = fixtures.get(name);
    if (!node) {
      const isHeading = kind === "heading";
      node = isHeading
        ? headingOf(source.sections[block.section])
        : element("li", { class: "hits-wait", "aria-hidden": "true" });
      fixtures.set(name, node);
      if (!isHeading) node.style.setProperty("block-size", `${guess(block) - gapOf()}px`);
    }
    const top = tops[number] - (kind === "heading" ? FIRST_HEADING : 0);
    node.style.setProperty("inset-block-start", `${top - shift}px`);
    return node;
  }

  function put(wanted) {
    const focused = document.activeElement;
    const focusedCell = list.contains(focused) ? focused.closest("li") : null;
    const kept = new Set(wanted.values());
    for (const [order, node] of rendered) {
      if (kept.has(node)) continue;
      const isFocused = node === focusedCell && source.hits[order] && cellOf(source.hits[order]) === node;
      if (isFocused) wanted.set(order, node); // what has the focus stays
      else {
        node.remove();
        if (Number.isInteger(order)) forget(node);
      }
    }
    const total = String(source.isComplete ? source.length : -1);
    const orders = [...wanted.keys()].sort((one, other) => other - one);
    // From the last to the first, each before the one behind it; what stands right is not touched.
    let behind = null;
    for (const order of orders) {
      const node = wanted.get(order);
      if (Number.isInteger(order)) {
        const box = boxOf(order);
        node.style.setProperty("inset-block-start", `${box.top - shift}px`);
        node.style.setProperty("inset-inline-start", `${box.left}px`);
        node.style.setProperty("inline-size", `${box.width}px`);
        node.style.setProperty("block-size", `${box.height}px`);
        node.setAttribute("aria-posinset", String(order + 1));
        node.setAttribute("aria-setsize", total);
      }
      if (node.parentNode !== list || node.nextElementSibling !== behind) list.insertBefore(node, behind);
      behind = node;
    }
    if (focusedCell?.isConnected && document.activeElement !== focused) {
      focused.focus({ preventScroll: true }); // it went while its cell was moved
    }
    rendered = new Map(orders.reverse().map((order) => [order, wanted.get(order)]));
  }

  function later() {
    frame ??= requestAnimationFrame(render);
  }

  function scrolled() {
    const now = performance.now();
    const speed = Math.abs(scrollY - lastY) / Math.max(1, now - lastAt);
    adjustShift(scrollY);
    [lastY, lastAt] = [scrollY, now];
    hurried(speed > HURRY);
    clearTimeout(settle);
    settle = setTimeout(settled, SETTLED_MS);
    later();
  }

  function settled() {
    settle = null;
    hurried(false);
    loadWhatIsNear();
  }

  async function loadWhatIsNear() {
    if (!blocks.length) return;
    const top = viewTop();
    const first = blockAt(top - innerHeight);
    const last = blockAt(top + 2 * innerHeight);
    let [from, to] = [null, null];
    for (let number = first; number <= last; number += 1) {
      if (isLoaded(blocks[number])) continue;
      from ??= blocks[number].from;
      to = blocks[number].to;
    }
    const isNearEnd = !source.isComplete && height() - top < 2 * innerHeight + 900;
    if (from === null && !isNearEnd) return;
    await source.load(from ?? source.length, to ?? source.length + BLOCKS_AHEAD);
  }

  addEventListener("scroll", scrolled, { passive: true });
  new ResizeObserver(() => {
    if (list.clientWidth === size.width) return;
    keepingPlace(() => {
      measure();
      place();
    });
  }).observe(list);

  // ---- Places

  const cellIndices = () => [...rendered.keys()].filter(Number.isInteger);

  // What stands at the upper edge of the window: {index, offset}, offset in pixels below that edge.
  function anchor() {
    const edge = barHeight();
    const top = viewTop();
    if (!blocks.length || top + edge <= 0) return null;
    for (const index of cellIndices()) {
      const box = boxOf(index);
      if (box.top + box.height > top + edge) return { index, offset: box.top - top };
    }
    const number = blockAt(top + edge);
    return { index: blocks[number].from, offset: tops[number] - top };
  }

  // Does what changes heights, and keeps what is at the upper edge of the window where it is.
  function keepingPlace(change) {
    const kept = anchor();
    change();
    if (kept && kept.index < source.length) {
      const { top } = boxOf(kept.index);
      if (Math.abs(top - viewTop() - kept.offset) > 0.5) return scrollToTop(top, kept.offset);
    }
    return render();
  }

  return {
    // Shows a source: {hits (with holes where they are not loaded), length, isComplete (whether the length
    // is known), sections, areCards, load(from, to)}.
    show(shownSource) {
      source = shownSource;
      measure();
      shift = 0;
      place();
      render();
      loadWhatIsNear();
    },
    // The source has got more, or knows more of its length.
    changed(shownSource = source) {
      source = shownSource;
      keepingPlace(() => {
        measure();
        place();
      });
      loadWhatIsNear();
    },
    measure,
    anchor,
    boxOf,
    height,
    viewTop,
    row: () => size.row,
    indexOfCell(cell) {
      for (const [index, other] of rendered) if (other === cell) return index;
      return -1;
    },
    cellAt: (index) => rendered.get(index) ?? null,
    // The index of the last hit whose row has come into the window.
    lastVisible() {
      const bottom = viewTop() + innerHeight;
      let last = -1;
      for (const index of cellIndices()) if (boxOf(index).top < bottom) last = index;
      return last;
    },
    scrollToTop,
    // Brings a hit into the window, if it is not there. Resolves when it is loaded and shown.
    async reveal(index, { offset = null } = {}) {
      if (!source.hits[index]) {
        const { top } = boxOf(index);
        scrollToTop(top, offset ?? barHeight() + HEADING);
        await source.load(index, index + 1);
        if (!source.hits[index]) return null;
      }
      const { top, height: tall } = boxOf(index);
      const y = top - viewTop();
      if (offset !== null) scrollToTop(top, offset);
      else if (y < barHeight() + 8) scrollToTop(top, barHeight() + HEADING);
      else if (y + tall > innerHeight - 8) scrollToTop(top, innerHeight - tall - 12);
      else render();
      return rendered.get(index) ?? null;
    },
    // The cell of a hit of which a part is below the bar and inside the window; null: there is none.
    seen(index) {
      if (!source.hits[index]) return null;
      const { top, height: tall } = boxOf(index);
      const y = top - viewTop();
      const isSeen = y + tall > barHeight() + 8 && y < innerHeight - 8;
      return isSeen ? rendered.get(index) ?? null : null;
    },
    // The neighbour of a hit above or below, as the eye sees it; null at the ends.
    inNextRow(index, step) {
      const here = boxOf(index);
      const middle = here.left + here.width / 2;
      let [best, bestDistance, row] = [null, Infinity, null];
      for (let at = index + step; at >= 0 && at < source.length; at += step) {
        const box = boxOf(at);
        if (Math.abs(box.top - here.top) < 1) continue;
        row ??= box.top;
        if (Math.abs(box.top - row) > 1) break;
        const distance = Math.abs(box.left + box.width / 2 - middle);
        if (distance < bestDistance) [best, bestDistance] = [at, distance];
        if (!source.hits[at]) break;
      }
      return best;
    },
  };
}
