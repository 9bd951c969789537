"""The metrics as independent tools compute them: ir-measures (that is, trec_eval) and ranx."""

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import AP, RR, P, R, Rprec, Success, nDCG

from benchmarks.metrics import evaluate, judge, per_query
from benchmarks.quality.trec import write_qrels, write_run


def trec_names(k):
    return {
        f"hit_recall@{k}": Success @ k,
        f"recall@{k}": R @ k,
        f"precision@{k}": P @ k,
        f"map@{k}": AP @ k,
        f"ndcg@{k}": nDCG @ k,
        "map": AP,
        "mrr": RR,
        "ndcg": nDCG,
        "r_precision": Rprec,
    }


def assert_as_trec_eval(qrels, run, k):
    judgments = judge(qrels, run)
    names = trec_names(k)
    rows = ir_measures.iter_calc(list(names.values()), qrels, run)
    expected = {(row.query_id, row.measure): row.value for row in rows}
    for name, measure in names.items():
        theirs = [expected[query, measure] for query in judgments.query_ids]
        np.testing.assert_allclose(per_query(judgments, name), theirs, rtol=0, atol=1e-9)
    # MAP@R has no name there: it is AP at the number of relevant items of each query.
    for query, r, ours in zip(
        judgments.query_ids, judgments.relevant, per_query(judgments, "map@r"), strict=True
    ):
        theirs = ir_measures.calc_aggregate(
            [AP @ int(r)], {query: qrels[query]}, {query: run.get(query, {})}
        )
        assert ours == pytest.approx(theirs[AP @ int(r)], abs=1e-9)


# Scores that single precision tells apart, since trec_eval keeps no more.
scores = st.sampled_from([-2.0, -0.0, 0.0, 0.25, 0.5, 1.0]) | st.floats(-10, 10, width=32)
ids = st.text(alphabet="ab19 é中", min_size=1, max_size=2)


@given(
    qrels=st.dictionaries(ids, st.dictionaries(ids, st.integers(0, 3), max_size=6), max_size=4),
    run=st.dictionaries(ids, st.dictionaries(ids, scores, max_size=9), max_size=4),
    k=st.integers(1, 12),
)
def test_any_run_is_judged_as_by_trec_eval(qrels, run, k):
    qrels["certain"] = {"a": 1, "b": 2}
    assert_as_trec_eval(qrels, run, k)


@pytest.mark.parametrize("distinct_scores", [1, 2, 20, 10_000])
def test_large_runs_are_judged_as_by_trec_eval(distinct_scores):
    assert_as_trec_eval(*random_data(distinct_scores, queries=20), 10)


def random_data(distinct_scores, queries):
    generator = np.random.default_rng(distinct_scores)
    items = [f"item{number}" for number in range(120)]
    qrels, run = {}, {}
    for number in range(queries):
        relevant = generator.choice(items, generator.integers(1, 30), replace=False)
        qrels[f"q{number}"] = {str(item): int(generator.integers(1, 4)) for item in relevant}
        found = generator.choice(items, generator.integers(1, 120), replace=False)
        drawn = generator.permutation(distinct_scores)[np.arange(len(found)) % distinct_scores]
        run[f"q{number}"] = {
            str(item): score / 8 for item, score in zip(found, drawn.tolist(), strict=True)
        }
    return qrels, run


RANX_NAMES = {
    "hit_recall@10": "hit_rate@10",
    "recall@10": "recall@10",
    "precision@10": "precision@10",
    "map": "map",
    "map@10": "map@10",
    "mrr": "mrr",
    "mrr@10": "mrr@10",
    "ndcg": "ndcg",
    "ndcg@10": "ndcg@10",
    "r_precision": "r-precision",
}


@pytest.mark.filterwarnings("ignore")  # of numba
def test_written_files_give_the_same_figures_in_other_tools(tmp_path):
    """Ids hold spaces. Scores have no ties, since ranx breaks them in no stated way."""
    import ranx

    qrels, run = random_data(10_000, queries=12)
    rename = "folder of {}/a b!.jpg".format
    qrels = {f"query {q}": {rename(i): g for i, g in items.items()} for q, items in qrels.items()}
    run = {f"query {q}": {rename(i): s / 3 for i, s in items.items()} for q, items in run.items()}
    run = {q: {i: float(np.float32(s)) for i, s in items.items()} for q, items in run.items()}
    del run["query q3"]
    ours = evaluate(judge(qrels, run), RANX_NAMES)
    write_run(tmp_path / "run.trec", run)
    write_qrels(tmp_path / "qrels.trec", qrels)

    theirs = ir_measures.calc_aggregate(
        trec_names(10).values(),
        list(ir_measures.read_trec_qrels(str(tmp_path / "qrels.trec"))),
        list(ir_measures.read_trec_run(str(tmp_path / "run.trec"))),
    )
    for name, measure in trec_names(10).items():
        assert ours[name] == pytest.approx(theirs[measure], abs=1e-9), name

    their_qrels = ranx.Qrels.from_file(str(tmp_path / "qrels.trec"), kind="trec")
    their_run = ranx.Run.from_file(str(tmp_path / "run.trec"), kind="trec")
    theirs = ranx.evaluate(their_qrels, their_run, list(RANX_NAMES.values()), make_comparable=True)
    for name, their_name in RANX_NAMES.items():
        assert ours[name] == pytest.approx(theirs[their_name], abs=1e-9), name
