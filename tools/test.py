"""Tests a checkpoint: ``python tools/test.py configs/ovd_toy_subpt_nfl.py
work_dirs/ovd_toy_subpt_nfl/iter_300.pth``."""

import argparse
import os

from mmengine.config import DictAction

from subpt_dense.apis import load_config, test


def parse_args() -> argparse.Namespace:
    """The hosts' flags."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", nargs="?", help="checkpoint file; none where nothing is learned")
    parser.add_argument("--work-dir", help="where logs go; by default work_dirs/<config name>")
    parser.add_argument("--out", metavar="FILE.json", help="the table as JSON; by default test.json in the work dir")
    parser.add_argument("--show-dir", help="folder for pictures with the detections drawn")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, help="overrides, such as model.prompt.templates=single"
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)  # torch.distributed.launch passes it
    return parser.parse_args()


def main() -> None:
    """Parse, load, test."""
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = load_config(args.config, options=args.cfg_options, work_dir=args.work_dir, launcher=args.launcher)
    test(cfg, args.checkpoint, out=args.out, show_dir=args.show_dir)


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, FileExistsError) as error:
        raise SystemExit(f"error: {error}") from None
