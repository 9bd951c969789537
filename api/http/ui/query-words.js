// Finds the words of a query in a text, to mark them: in either case, without accents and in one width, with
// the endings that words take, and two characters that follow each other where a script has no spaces.

import { element } from "./dom.js";

const SYLLABLES = "\\p{scx=Han}\\p{scx=Hiragana}\\p{scx=Katakana}\\p{scx=Bopomofo}\\p{scx=Hangul}";
const LETTERS = "\\p{scx=Thai}\\p{scx=Lao}\\p{scx=Khmer}\\p{scx=Myanmar}\\p{scx=Tibetan}";
const RUN = new RegExp(`(?<joined>[[${SYLLABLES}${LETTERS}]&&[\\p{L}\\p{N}\\p{M}]]+)|(?<spaced>[\\p{L}\\p{N}\\p{M}]+)`, "gv");
// What a word may end with and still be the same one.
const ENDING = /^(s|es|ed|d|e|er|r|en|n|ing)?$/;
const SHORTEST_STEM = 3;
const SHORTEST_PREFIX = 3;
// They are in every text, and mark nothing unless they are all that is asked for.
const FUNCTION_WORDS = new Set(
  "a an and are as at by der die das ein eine for from im in is it mit of on or the to und von was with".split(" "),
);

const folded = (word) => word.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

function isSame(word, other) {
  if (word === other) return true;
  let length = 0;
  while (length < word.length && word[length] === other[length]) length += 1;
  if (length === other.length && length >= SHORTEST_PREFIX) return true; // what was typed may go on
  return length >= SHORTEST_STEM && ENDING.test(word.slice(length)) && ENDING.test(other.slice(length));
}

// Returns a function of a text: the ranges of it, [from, to] in their order, that the words of a query are found at.
export function finderOf(query) {
  const words = [];
  const pairs = [];
  for (const { groups } of query.matchAll(RUN)) {
    if (groups.spaced) words.push(folded(groups.spaced));
    else {
      const characters = [...groups.joined.normalize("NFKC")];
      if (characters.length < 2) pairs.push(characters.join(""));
      for (let at = 0; at + 1 < characters.length; at += 1) pairs.push(characters[at] + characters[at + 1]);
    }
  }
  const telling = words.filter((word) => !FUNCTION_WORDS.has(word));
  const wanted = telling.length || pairs.length ? telling : words;
  return (text) => {
    const found = [];
    for (const { 0: run, index, groups } of text.matchAll(RUN)) {
      if (groups.spaced) {
        const word = folded(run);
        if (wanted.some((other) => isSame(word, other))) found.push([index, index + run.length]);
        continue;
      }
      // Of these scripts each character is folded to one.
      const characters = run.normalize("NFKC").length === run.length ? run.normalize("NFKC") : run;
      for (let at = 0; at < characters.length; at += 1) {
        const length = pairs.find((pair) => characters.startsWith(pair, at))?.length;
        if (!length) continue;
        const last = found.at(-1);
        if (last && last[1] >= index + at) last[1] = Math.max(last[1], index + at + length);
        else found.push([index + at, index + at + length]);
      }
    }
    return found;
  };
}

// A text as nodes, in which what was found is marked.
export function marked(text, ranges) {
  const nodes = [];
  let end = 0;
  for (const [from, to] of ranges) {
    nodes.push(text.slice(end, from), element("mark", {}, text.slice(from, to)));
    end = to;
  }
  return [...nodes, text.slice(end)].filter((node) => node !== "");
}
