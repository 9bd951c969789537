"""Which words of a text the page marks as those of a query."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

MODULE = Path(__file__).parents[4] / "api/http/ui/query-words.js"

CASES = [
    ("the receipt", "RECEIPTS of the day", ["RECEIPTS"]),
    ("the", "at the end", ["the"]),
    ("café", "CAFE and Café", ["CAFE", "Café"]),
    ("cafe\u0301", "café", ["café"]),
    ("coff", "coffee, offer", ["coffee"]),
    ("cat", "concatenate a cat, cats", ["cat", "cats"]),
    ("12.50", "TOTAL:12.50", ["12", "50"]),
    ("total 12", "Total 12", ["Total", "12"]),
    ("雪地里的两只狗", "两只小狗在雪地里", ["两只", "雪地里"]),
    ("总计", "总计：12", ["总计"]),
    ("计", "总计：12", ["计"]),
    ("한국어", "한국어로", ["한국어"]),
    ("ＦＵＬＬ", "full width", ["full"]),
    ("", "anything", []),
    ("the dog", "<b>dog</b>", ["dog"]),
]


def test_words_of_a_query_are_found_in_a_text(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node.js to run a module of the page")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copy(MODULE, tmp_path)
    (tmp_path / "dom.js").write_text("export const element = (tag, _, text) => ({ tag, text });")
    program = f"""
        import {{ finderOf, marked }} from "./query-words.js";
        const told = {json.dumps([case[:2] for case in CASES])}.map(([query, text]) =>
          marked(text, finderOf(query)(text)));
        console.log(JSON.stringify(told));
    """
    (tmp_path / "main.js").write_text(program)
    done = subprocess.run([node, tmp_path / "main.js"], check=True, capture_output=True, text=True)
    for (query, text, wanted), nodes in zip(CASES, json.loads(done.stdout), strict=True):
        found = [node["text"] for node in nodes if isinstance(node, dict)]
        assert found == wanted, (query, text)
        assert "".join(n["text"] if isinstance(n, dict) else n for n in nodes) == text
