"""Trains a model: ``python tools/train.py configs/ovd_toy_subpt_nfl.py``."""

import argparse
import os

from mmengine.config import DictAction

from subpt_dense.apis import load_config, train


def parse_args() -> argparse.Namespace:
    """The hosts' flags."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="where logs and checkpoints go; by default work_dirs/<config name>")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="CKPT",
        help="go on from this checkpoint, or from the latest",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision, on CUDA devices")
    parser.add_argument("--auto-scale-lr", action="store_true", help="scale the learning rate to the number of GPUs")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="overrides, such as model.prompt.length=8")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)  # torch.distributed.launch passes it
    return parser.parse_args()


def main() -> None:
    """Parse, load, train."""
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = load_config(
        args.config,
        options=args.cfg_options,
        work_dir=args.work_dir,
        launcher=args.launcher,
        resume=args.resume,
        amp=args.amp,
        auto_scale_lr=args.auto_scale_lr,
    )
    train(cfg)


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, FileExistsError) as error:
        raise SystemExit(f"error: {error}") from None
