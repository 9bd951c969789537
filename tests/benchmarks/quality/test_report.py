"""Reports of a result."""

from dataclasses import replace

from benchmarks.quality.report import format_figure, markdown, published_beside, write_report


def test_the_report_is_one_file_that_needs_no_other(measured, dataset, tmp_path):
    record, ranked = measured
    page = write_report(tmp_path / "report", record, dataset, ranked).read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "Reranked" not in page
    assert page.count('class="failure"') == 48
    assert "data:image/jpeg;base64," in page
    assert "&lt;everywhere&gt;" in page
    assert "<everywhere>" not in page
    assert 'src="http' not in page
    assert "href=" not in page.replace('xlink:href="#', "")
    assert "| hit_recall@1 |" in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")


def test_problems_of_the_data_are_told(measured):
    record, _ = measured
    assert "30 x text cut at the encoder's context" in markdown(record)
    broken = replace(record, dataset={**record.dataset, "problems": {"missing image": 3}})
    assert "3 x missing image" in markdown(broken)


def test_published_figures_stand_beside_the_dataset_they_are_of(measured):
    record, _ = measured
    assert published_beside(record) == []
    flickr = replace(record, dataset={**record.dataset, "name": "Flickr30k", "split": "test"})
    rows = published_beside(flickr)
    assert any(row["model"].startswith("CLIP ViT-B/32") for row in rows)
    assert all(row["source"].startswith("https://") for row in rows)
    assert "not measured here" in markdown(flickr)


def test_figures_are_percentages_but_ranks():
    assert format_figure("hit_recall@1", 0.123) == "12.3"
    assert format_figure("median_rank", 1234.0) == "1,234.0"
