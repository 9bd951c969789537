"""The commands of mmsearch that make what a plan says."""

from benchmarks.capacity.records import Plan

TABLE = "lance+s3://BUCKET/library"


def commands_of(plan: Plan) -> tuple[str, ...]:
    """List the commands, in their order; words in capitals are the user's."""
    encoder = encoder_option(plan.wanted.encoder)
    if plan.is_one_machine:
        return (
            f"mmsearch index FOLDER --library DIR --encoder {encoder}",
            "mmsearch build-index --library DIR",
            "mmsearch serve --library DIR",
        )
    made = [
        f"mmsearch index s3://BUCKET/photos --cluster ray://HEAD:10001 --library {TABLE} "
        f"--encoder {encoder}",
        f"mmsearch build-index --library {TABLE} --cluster ray://HEAD:10001",
    ]
    serving = plan.serving
    if serving.shards == 1:
        made.append(f"mmsearch serve --library {TABLE} --copy /nvme/library")
    else:
        made += [
            f"mmsearch copy {TABLE} /nvme/library",
            f"mmsearch serve --library /nvme/library --cluster auto --shards {serving.shards} "
            f"--replicas {serving.replicas}",
        ]
    return tuple(made)


def encoder_option(encoder: str) -> str:
    """Write an encoder as `--encoder` takes it: `ViT-L-14` is one of open_clip's."""
    if ":" in encoder or encoder in {"starter", "auto"}:
        return encoder
    return f"open_clip:{encoder}/PRETRAINED"
