"""Embeds regions with a CLIP's image tower, into a cache that training reads without a copy:

python tools/extract_regions.py --annotations A.json --images FOLDER --out data/coco/regions --ground-truth
python tools/extract_regions.py --annotations A.json --images FOLDER --out data/coco/regions --proposals P.json
python tools/extract_regions.py --annotations A.json --images FOLDER --out data/coco/regions --rpn CONFIG CHECKPOINT
torchrun --nproc_per_node=8 tools/extract_regions.py ... --launcher pytorch    # the same command, on 8 GPUs
python tools/extract_regions.py --verify data/coco/regions                     # every byte against the manifest

A run that was stopped goes on when the same command is given again.
"""

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import init_dist

import subpt_dense.toyworld  # noqa: F401 - its CLIPs are then known by name
from subpt_dense.apis.regions import extract_regions
from subpt_dense.apis.rpn_proposals import dump_proposals
from subpt_dense.datasets import RegionCache
from subpt_dense.text import TextSpec

_PATIENCE = 7 * 24 * 3600  # seconds that ranks wait for the slowest


def parse_args(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags; those that are missing or contradict each other are refused."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--proposals", metavar="FILE.json", help="a COCO results file: image_id, bbox, score")
    source.add_argument("--ground-truth", action="store_true", help="the annotation file's own boxes, all of them")
    source.add_argument(
        "--rpn", nargs=2, metavar=("CONFIG", "CHECKPOINT"),
        help="a detector whose proposals are written to <out>.proposals.json first",
    )  # fmt: skip
    source.add_argument("--verify", metavar="FOLDER", help="check every file of a cache, and nothing else")
    parser.add_argument("--annotations", metavar="FILE.json", help="COCO or LVIS annotation file: what the images are")
    parser.add_argument("--images", metavar="FOLDER", help="the images' folder")
    parser.add_argument("--out", metavar="FOLDER", help="the cache's folder")
    parser.add_argument("--model", default="ViT-B-32-quickgelu", help="open_clip model (default: %(default)s)")
    parser.add_argument("--pretrained", default="openai", help="its weights, tag or file (default: %(default)s)")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"])
    parser.add_argument(
        "--scales", type=float, nargs="+", default=[1.0, 1.5], help="crops of each region (default: 1.0 1.5)"
    )
    parser.add_argument("--max-per-image", type=int, default=300, help="proposals kept (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="crops encoded at a time (default: %(default)s)")
    parser.add_argument("--shard-regions", type=int, help="least regions a file; by default from their number")
    parser.add_argument("--workers", type=int, default=2, help="processes that read images (default: %(default)s)")
    parser.add_argument("--device", help="such as cuda or cpu; by default the best there is")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm"], default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)  # torch.distributed.launch passes it
    options = parser.parse_args(arguments)
    missing = [f"--{key}" for key in ("annotations", "images", "out") if getattr(options, key) is None]
    if missing and not options.verify:
        parser.error(f"{', '.join(missing)} must be given")
    return options


def start_processes(launcher: str) -> None:
    """Meet the other processes; they exchange nothing but signs that they are ready, so gloo serves GPUs too."""
    if launcher == "pytorch" and not torch.cuda.is_available():
        torch.distributed.init_process_group("gloo", timeout=datetime.timedelta(seconds=_PATIENCE))
    elif launcher != "none":
        init_dist(launcher, backend="gloo", timeout=_PATIENCE)


def extract(options: argparse.Namespace) -> None:
    """Dump the proposals where a detector gives them, then embed."""
    start_processes(options.launcher)
    common = {key: getattr(options, key) for key in ("annotations", "images", "max_per_image", "workers", "device")}
    proposals: str | Path | None = options.proposals
    facts: dict[str, Any] | None = None
    if options.rpn:
        config, checkpoint = options.rpn
        proposals = Path(f"{options.out}.proposals.json")
        made_by = dump_proposals(proposals, config=config, checkpoint=checkpoint, **common)
        facts = {"kind": "rpn", "made_by": made_by}
    extract_regions(
        options.out,
        clip=TextSpec(options.model, options.pretrained, options.precision),
        proposals=proposals,
        proposal_facts=facts,
        scales=options.scales,
        batch_size=options.batch_size,
        shard_regions=options.shard_regions,
        **common,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, then extract or verify."""
    options = parse_args(arguments)
    try:
        if options.verify:
            cache = RegionCache(options.verify, verify=True)
            print(
                f"{options.verify}: {cache.manifest['regions']:,} regions of {cache.manifest['images']:,} images, whole"
            )
        else:
            extract(options)
    except (OSError, ValueError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from None
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
