"""Token ids of open_clip's models without open_clip: by a `tokenizers` file and a few settings.

open_clip has two tokenizers: CLIP's own byte-pair encoding, and those of the hub. Both clean texts
in Python first, so that is done here in the same way.
"""

import html
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
import regex
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _whitespace(text: str) -> str:
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).strip().split())


def _lower(text: str) -> str:
    return _whitespace(text).lower()


def _canonical(text: str) -> str:
    clean = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return " ".join(clean.replace("_", " ").translate(_PUNCTUATION).lower().split())


CLEANERS: Mapping[str, Callable[[str], str]] = {
    "whitespace": _whitespace,
    "lower": _lower,
    "canonicalize": _canonical,
}
"""By open_clip's names; the same as its functions."""


class ExportedTokenizer:
    """Tokenizes texts as open_clip does for a model.

    Args:
        file: of `tokenizers`.
        context_length: tokens of a text, with the special ones; longer texts are cut.
        clean: which of `CLEANERS`.
        pattern: for CLIP's own encoding, the regular expression of words; its first and last
            tokens are `begin` and `end`. None for tokenizers of the hub, whose file says all.
        pad: id in the places after a text, or before it if `pad_left`.
        zeroed: an id that is replaced by 0.
    """

    def __init__(
        self,
        file: Path,
        *,
        context_length: int,
        clean: str,
        pattern: str | None = None,
        begin: int = 0,
        end: int = 0,
        pad: int = 0,
        pad_left: bool = False,
        zeroed: int | None = None,
    ) -> None:
        self.context_length = context_length
        self._clean = CLEANERS[clean]
        self._words = None if pattern is None else regex.compile(pattern, regex.IGNORECASE)
        self._ends = begin, end
        self._pad, self._pad_left, self._zeroed = pad, pad_left, zeroed
        self._tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Tokenize n texts; (n, context_length), cut and padded."""
        ids = np.full((len(texts), self.context_length), self._pad, np.int64)
        clean = [self._clean(text) for text in texts]
        for row, text in zip(ids, self._all(clean), strict=True):
            if self._pad_left:
                row[len(row) - len(text) :] = text
            else:
                row[: len(text)] = text
        return ids if self._zeroed is None else np.where(ids == self._zeroed, 0, ids)

    def count(self, text: str) -> int:
        """Tokens of a text with the special ones, before truncation."""
        if self._words is not None:
            return len(self._encode_words(self._clean(text))) + 2
        return len(self._tokenizer.encode(self._clean(text)).ids)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Locate each of a text's tokens in it; (0, 0) for special ones.

        Of a text that the clean-up makes shorter or longer the places after the change are off by
        as much.
        """
        if self._words is None:
            offsets = self._tokenizer.encode(self._clean(text)).offsets
            return [(start, end) for start, end in offsets[: self.context_length]]
        count = self.count(text)
        # Usually the text as it is gives its tokens; cleaned up as a whole, it always does.
        # A word that is clean in its text may not be so alone: clean texts are not cleaned again.
        for form, clean in ((text, self._clean), (self._clean(text), str)):
            found = [(0, 0)]
            for word in self._words.finditer(form):
                found += [word.span()] * len(self._encode_words(clean(word.group())))
            if len(found) + 1 == count:
                break
        return [*found[: self.context_length - 1], (0, 0)]

    def _all(self, clean: Sequence[str]) -> list[list[int]]:
        """Tokenize clean texts, cut to the context."""
        if self._words is None:
            encoded = self._tokenizer.encode_batch(list(clean), add_special_tokens=False)
            return [self._cut(each) for each in encoded]
        begin, end = self._ends
        rows = [[begin, *self._encode_words(text)] for text in clean]
        return [[*row[: self.context_length - 1], end] for row in rows]

    def _cut(self, encoded: Encoding) -> list[int]:
        special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        encoded.truncate(max(self.context_length - special, 0))
        ids: list[int] = self._tokenizer.post_process(encoded).ids
        return ids

    def _encode_words(self, clean: str) -> list[int]:
        assert self._words is not None
        words = self._words.findall(clean)
        if not words:
            return []
        encoded = self._tokenizer.encode(words, is_pretokenized=True, add_special_tokens=False)
        return list(encoded.ids)


def settings_of(tokenizer: Any, file: Path) -> dict[str, Any] | None:
    """Write a tokenizer of open_clip to a file, for `ExportedTokenizer`; gives its settings.

    None, and no file, for one whose workings are not known here.
    """
    cleaners = {f"_clean_{name}": name for name in CLEANERS}
    settings = {
        "context_length": int(tokenizer.context_length),
        "clean": cleaners.get(getattr(getattr(tokenizer, "clean_fn", None), "__name__", "")),
    }
    if settings["clean"] is None:
        return None
    if hasattr(tokenizer, "bpe_ranks"):
        if tokenizer.reduction_fn is not None:
            return None
        _clip_bpe(tokenizer).save(str(file))
        return settings | {
            "pattern": tokenizer.pat.pattern,
            "begin": tokenizer.sot_token_id,
            "end": tokenizer.eot_token_id,
        }
    inner = tokenizer.tokenizer
    backend = getattr(inner, "backend_tokenizer", None)
    if backend is None or getattr(tokenizer, "tokenizer_mode", None):
        return None
    file.write_text(backend.to_str(), encoding="utf-8")
    return settings | {
        "pad": inner.pad_token_id or 0,
        "pad_left": inner.padding_side == "left",
        "zeroed": inner.sep_token_id if getattr(tokenizer, "strip_sep_token", False) else None,
    }


def _clip_bpe(tokenizer: Any) -> Tokenizer:
    """Build CLIP's byte-pair encoding (Radford et al. 2021), for words that are split already."""
    from tokenizers import AddedToken, models, pre_tokenizers

    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.get)
    model = models.BPE(dict(tokenizer.encoder), merges, end_of_word_suffix="</w>")
    made = Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    special = [tokenizer.decoder[each] for each in tokenizer.all_special_ids]
    made.add_special_tokens([AddedToken(each, normalized=False) for each in special])
    return made
