import pytest

from benchmarks.capacity.commands import commands_of, encoder_option


def test_a_small_library_needs_no_cluster(planned):
    commands = commands_of(planned(100_000))
    assert [command.split()[1] for command in commands] == ["index", "build-index", "serve"]
    assert "cluster" not in " ".join(commands)


def test_a_large_one_is_a_table_that_query_nodes_copy(planned):
    index, build, serve = commands_of(planned(10**9, encoder="ViT-L-14"))
    assert "--cluster" in index
    assert "open_clip:ViT-L-14/PRETRAINED" in index
    assert all("lance+s3://" in command for command in (index, build, serve))
    assert "--copy" in serve
    assert "--shards" not in serve


def test_a_huge_one_is_searched_in_shards(planned):
    plan = planned(10**10)
    assert f"--shards {plan.serving.shards} --replicas 2" in commands_of(plan)[-1]


@pytest.mark.parametrize(
    ("encoder", "option"),
    [
        ("starter", "starter"),
        ("ViT-L-14", "open_clip:ViT-L-14/PRETRAINED"),
        ("open_clip:ViT-L-14/openai", "open_clip:ViT-L-14/openai"),
        ("local-dir:/models/mine", "local-dir:/models/mine"),
    ],
)
def test_encoders_are_written_as_index_takes_them(encoder, option):
    assert encoder_option(encoder) == option
